import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import type { ExecStream } from '../backends/kubernetes/exec-stream.ts';
import type { KubernetesBackend } from '../backends/kubernetes/kubernetes-backend.ts';
import { startProbe } from '../canary/probe-run.ts';
import type { Clock } from '../clock.ts';
import { createDeadline, orAborted } from '../deadline.ts';
import { createRunnerClient } from '../runner/client.ts';
import type { Ready } from '../runner/messages.ts';
import type { Check } from './check.ts';
import { wordsBehind } from './words-behind.ts';

/** An image may have to be pulled. */
const CREATE_TIMEOUT_MS = 180_000;
const READY_TIMEOUT_MS = 60_000;
const PROBE_WAIT_MS = 20_000;
/** What a program may start here, so that the node's own limit is what it meets. */
const MANY_PROCESSES = 4_096;
/** Beside a program's: the runner, its zygote, and the execs that reach them. */
const OWN_PROCESSES = 8;

/** `refused`: what was wanting for one thread more. */
const limitsSchema = z.object({ threads: z.int().min(0), refused: z.enum(['pids', 'else']).nullable() });
type Limits = z.output<typeof limitsSchema>;

/** What a failed creation is about. */
const ABOUT: Readonly<Partial<Record<Failure['code'], string>>> = {
  image_error: 'image',
  quota_exceeded: 'quota',
  policy_denied: 'admission',
  unschedulable: 'room',
};

/** What a runner confines programs by, as `require` names it. */
const CONFINES = ['seccomp', 'landlock'] as const;

export type SandboxCheckDeps = { backend: KubernetesBackend; clock: Clock; signal: AbortSignal };

/** Makes one sandbox of a template and tries what only a sandbox can tell: image, exec protocol, runner, pid limit. */
export async function* checkSandbox(
  { backend, clock, signal }: SandboxCheckDeps,
  template: Template,
): AsyncGenerator<Check> {
  const wide = { ...template, resources: { ...template.resources, processes: MANY_PROCESSES } };
  const startedMs = clock.now();
  let name = 'pod';
  try {
    using deadline = createDeadline(
      clock,
      CREATE_TIMEOUT_MS,
      late('The sandbox took too long to make.'),
      signal,
    );
    const sandbox = await backend.create(wide, deadline.signal);
    try {
      name = 'exec';
      const stream = (await backend.connect(sandbox, deadline.signal)) as ExecStream;
      const image = `${template.name}: ${template.image} runs, after ${seconds(clock.now() - startedMs)}`;
      yield { name: 'image', state: 'ok', detail: image };
      yield protocolCheck(stream.protocol);
      name = 'runner';
      const runner = createRunnerClient({ stream, epoch: 1 });
      runner.ready.catch(() => {});
      using readyBy = createDeadline(clock, READY_TIMEOUT_MS, late('The runner said nothing.'), signal);
      const ready = await orAborted(runner.ready, readyBy.signal);
      yield runnerCheck(ready, template);
      if (ready.ok && template.preload.length > 0) yield preloadCheck(ready, template);
      name = 'pid limit';
      if (ready.ok) yield pidCheck(await countThreads(runner, clock, { template: wide, signal }), template);
      runner.close();
    } finally {
      await backend.destroy(sandbox);
    }
  } catch (cause) {
    signal.throwIfAborted();
    if (!(cause instanceof Failure)) throw cause;
    const { code, detail } = cause;
    const advice = [...(code === 'image_error' ? [`It is ${template.image}.`] : []), ...wordsBehind(cause)];
    yield {
      name: ABOUT[code] ?? name,
      state: 'fail',
      detail: `${template.name}: ${detail} (${code})`,
      advice,
    };
  }
}

function protocolCheck(protocol: 'v4' | 'v5'): Check {
  if (protocol === 'v5') return { name: 'exec', state: 'ok', detail: 'v5.channel.k8s.io' };
  return { name: 'exec', state: 'ok', detail: 'v4.channel.k8s.io: this server has no v5, and needs none' };
}

async function countThreads(
  runner: Parameters<typeof startProbe>[0],
  clock: Clock,
  { template, signal }: { template: Template; signal: AbortSignal },
): Promise<Limits> {
  using deadline = createDeadline(clock, PROBE_WAIT_MS, late('The probe came to no end.'), signal);
  const request = { mode: 'limits', targets: {}, peer: null, mark: '', wait_ms: 0 } as const;
  const run = startProbe(runner, 1, { template, request });
  const limits = parseLimits(await orAborted(run.answer, deadline.signal));
  await orAborted(run.over, deadline.signal);
  if (!limits) throw new Failure('isolation_failed', 'What the probe printed is no report.');
  return limits;
}

/** What a probe printed, or undefined where it is no report: a sandbox wrote it. */
function parseLimits(text: string): Limits | undefined {
  try {
    return limitsSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** What confines programs beside their container. A runner tells of all that is not there, required or not. */
export function runnerCheck(
  { ok, python, missing }: Pick<Ready, 'ok' | 'python' | 'missing'>,
  { name: template, require }: Pick<Template, 'name' | 'require'>,
): Check {
  const name = 'runner';
  const lacks = (what: string) => missing.some((sentence) => sentence.startsWith(`${what}:`));
  if (!ok) {
    const required = missing.filter((sentence) => require.some((what) => sentence.startsWith(`${what}:`)));
    const advice = required.length > 0 ? required : missing;
    const detail = `what '${template}' requires is not there:`;
    return { name, state: 'fail', detail, advice };
  }
  const held = CONFINES.filter((what) => !lacks(what)).join(' and ');
  const absent = CONFINES.filter(lacks).join(' and ');
  const by = held === '' ? '' : `; programs are confined by ${held}`;
  const without = absent === '' ? '' : `; '${template}' does not require ${absent}, which this node has not`;
  return { name, state: 'ok', detail: `Python ${python}${by}${without}` };
}

/** What cannot be imported fails no sandbox: each program imports it anew, and meets the reason there. */
export function preloadCheck(
  { preloaded, preload_failed }: Pick<Ready, 'preloaded' | 'preload_failed'>,
  { name: template }: Pick<Template, 'name'>,
): Check {
  const name = 'preload';
  if (preload_failed.length === 0)
    return { name, state: 'ok', detail: `${template}: ${preloaded.join(', ')}` };
  const detail = `'${template}' preloads what its image cannot import; put it there, or take it out of preload:`;
  const advice = preload_failed.map(({ name: module, error }) => `${module}: ${error}`);
  return { name, state: 'warn', detail, advice };
}

/** What the node grants, beside what the template promises. */
export function pidCheck(
  { threads, refused }: Limits,
  { name: template, resources }: Pick<Template, 'name' | 'resources'>,
): Check {
  const name = 'pid limit';
  const promised = resources.processes;
  if (refused === 'else')
    return {
      name,
      state: 'unknown',
      detail: `a thread beside ${threads} was refused, and no limit on processes was why; '${template}' takes ${promised}`,
      advice: ["See that the template's resources.memory_mb has room for as many as it promises."],
    };
  if (!refused)
    return {
      name,
      state: 'unknown',
      detail: `none below ${threads} threads was met, and no more were tried; '${template}' takes ${promised}`,
      advice: [
        "See that podPidsLimit is set in the kubelet's configuration: without it only the template's own number holds a fork bomb.",
      ],
    };
  if (threads < promised + OWN_PROCESSES)
    return {
      name,
      state: 'warn',
      detail: `the node gives a pod about ${threads} threads, less than the ${promised} of template '${template}' and the runner's own`,
      advice: ["Raise podPidsLimit in the kubelet's configuration, or lower resources.processes."],
    };
  return {
    name,
    state: 'ok',
    detail: `the node gives a pod about ${threads} threads; '${template}' takes ${promised}`,
  };
}

function late(detail: string): () => Failure {
  return () => new Failure('backend_unavailable', detail);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
