import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { shimCommand } from '../runner/bundle.ts';

/**
 * What shim.py says on stderr when it has found the runner; others may have complained there before: a loader, of what its
 * variables name. An exec is open before the container is: behind the API server's translation even one into a container
 * that does not exist upgrades, and says so later. And a container runs before its runner listens.
 */
const THERE = 'podgate-shim: there';
/** Of the end of what was said. */
const MAX_SAID = 1_024;

/** A command that enters a sandbox from outside: its stdin and stdout are the stream. */
export type RunnerExec = {
  command: readonly string[];
  /** Ends the wait for the stream; a stream that is open is ended by destroying it. */
  signal: AbortSignal;
  onStderr: (chunk: Buffer) => void;
  /** The command has ended; `words` are the engine's own. */
  onEnd: (words: string) => void;
};

export type RunnerStreamOptions<Stream extends Duplex> = {
  python: string;
  signal: AbortSignal;
  /** Rejects with a Failure where there can be no such command. */
  open: (exec: RunnerExec) => Promise<Stream>;
};

/** A stream to a sandbox's runner. Resolves when the runner is there; rejects with a Failure when it cannot be reached now. */
export async function openRunnerStream<Stream extends Duplex>({
  python,
  signal,
  open,
}: RunnerStreamOptions<Stream>): Promise<Stream> {
  const there = Promise.withResolvers<void>();
  there.promise.catch(() => {});
  let said = '';
  const refuse = (words: string, cause?: unknown) => {
    const reason = new Error(`${words} ${said}`.trim(), { cause });
    there.reject(new Failure('sandbox_lost', 'The sandbox has no runner that answers.', { cause: reason }));
  };
  const stream = await open({
    command: shimCommand(python),
    signal,
    onStderr(chunk) {
      said = (said + chunk.toString('latin1')).slice(-MAX_SAID);
      if (said.includes(THERE)) there.resolve();
    },
    onEnd: (words) => refuse(words),
  });
  const onError = (cause: unknown) => refuse('', cause);
  const onAbort = () => there.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  stream.once('error', onError);
  try {
    if (stream.destroyed) refuse('');
    if (signal.aborted) onAbort();
    await there.promise;
    return stream;
  } catch (cause) {
    stream.on('error', () => {});
    stream.destroy();
    throw cause;
  } finally {
    signal.removeEventListener('abort', onAbort);
    stream.off('error', onError);
  }
}
