import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import * as z from 'zod';
import { Failure } from '../../../shared/errors.ts';
import type { RunnerConfig } from '../../runner/runner-config.ts';
import { EXIT_REFUSED, type SandboxUser, sandboxCommand, sandboxSpawnOptions } from './sandbox-command.ts';

const PROBE_TIMEOUT_MS = 20_000;
const MIN_MINOR = 9;
const WORDS_BYTES = 2_000;

const probeSchema = z.object({
  python: z.string().regex(/^\d+\.\d+\.\d+$/),
  executable: z.string().startsWith('/'),
  namespaces: z.boolean(),
});

/** An interpreter that a sandbox's UID can run here, and whether it was given namespaces. */
export type Interpreter = { readonly path: string; readonly version: string; readonly namespaces: boolean };

export type FindInterpreterOptions = {
  /** The template's own, which then is the only candidate. */
  python: string | undefined;
  /** Where to look otherwise, as in PATH. */
  path: string;
  user: SandboxUser;
  runner: RunnerConfig;
  namespaces: boolean;
  signal: AbortSignal;
};

/**
 * Tries each candidate as the sandbox's UID by making a sandbox with it: `python3` on root's PATH may be something that
 * nobody else can run. Rejects with `backend_unavailable`; the sentence names the setting where the machine refuses.
 */
export async function findInterpreter(options: FindInterpreterOptions): Promise<Interpreter> {
  const reasons: string[] = [];
  for (const candidate of await candidates(options)) {
    const answer = await probe(candidate, options);
    if ('refused' in answer) throw new Failure('backend_unavailable', answer.refused);
    if ('path' in answer) return answer;
    reasons.push(`${candidate} ${answer.unfit}`);
  }
  const found = reasons.length > 0 ? reasons.join('; ') : 'there is none';
  throw new Failure(
    'backend_unavailable',
    `No Python 3.${MIN_MINOR} or newer that the sandbox's user can run: ${found}. Install one or name it as \`python\` in the template.`,
  );
}

async function candidates({ python, path }: FindInterpreterOptions): Promise<string[]> {
  if (python !== undefined) return [python];
  const folders = [...path.split(delimiter).filter(isAbsolute), '/usr/local/bin', '/usr/bin'];
  const paths = [...new Set(folders.map((folder) => join(folder, 'python3')))];
  const usable = await Promise.all(
    paths.map((each) =>
      access(each, constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  return paths.filter((_, index) => usable[index]);
}

type Answer = Interpreter | { unfit: string } | { refused: string };

function probe(candidate: string, options: FindInterpreterOptions): Promise<Answer> {
  const { user, runner, namespaces, signal } = options;
  const { file, args } = sandboxCommand(candidate, { runner, parent: process.pid, namespaces, probe: true });
  const settings = { ...sandboxSpawnOptions(candidate, user), timeout: PROBE_TIMEOUT_MS, signal };
  return new Promise((resolve, reject) => {
    try {
      execFile(file, args, settings, (error, stdout, stderr) => {
        if (signal.aborted) reject(signal.reason);
        else resolve(error ? judgeError(error, stderr) : judgeAnswer(stdout));
      });
    } catch (error) {
      resolve(judgeError(error as NodeJS.ErrnoException, ''));
    }
  });
}

function judgeError(error: { code?: unknown; killed?: boolean | undefined }, stderr: string): Answer {
  const words = stderr.trim().slice(-WORDS_BYTES);
  if (error.code === EXIT_REFUSED) {
    const reason = words.replace(/^podgate: /, '');
    return { refused: `This machine makes no local sandboxes: ${reason}.` };
  }
  if (error.code === 'EACCES') return { unfit: "cannot be run by the sandbox's user" };
  if (error.code === 'EPERM')
    return { refused: 'This machine does not let the agent change to the sandbox UID.' };
  // As root of a user namespace that has few UIDs, such as a rootless container's.
  if (error.code === 'EINVAL')
    return {
      refused:
        "The sandbox UID does not exist in the agent's user namespace. Run the agent as an ordinary user, or map more UIDs.",
    };
  if (error.killed) return { unfit: 'did not answer in time' };
  return { unfit: `failed (${words.split('\n').at(-1) || String(error.code)})` };
}

function judgeAnswer(stdout: string): Answer {
  let found: z.output<typeof probeSchema>;
  try {
    found = probeSchema.parse(JSON.parse(stdout));
  } catch {
    return { unfit: 'did not answer as a Python does' };
  }
  const [major = 0, minor = 0] = found.python.split('.').map(Number);
  if (major < 3 || (major === 3 && minor < MIN_MINOR)) return { unfit: `is Python ${found.python}` };
  return { path: found.executable, version: found.python, namespaces: found.namespaces };
}
