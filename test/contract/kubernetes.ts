import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Sandbox } from '../../agent/backends/backend.ts';
import { EXEC_PROTOCOLS } from '../../agent/backends/kubernetes/exec-protocol.ts';
import type { ExecStream } from '../../agent/backends/kubernetes/exec-stream.ts';
import type { Pod } from '../../agent/backends/kubernetes/kube-objects.ts';
import type { KubernetesBackend } from '../../agent/backends/kubernetes/kubernetes-backend.ts';
import { openExec } from '../../agent/backends/kubernetes/open-exec.ts';
import { CONTAINER, TERMINATION_PATH } from '../../agent/backends/kubernetes/pod-spec.ts';
import { deletePod } from '../../agent/backends/kubernetes/reaper.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import type { ExecutionHandlers } from '../../agent/runner/execution-stream.ts';
import type { RunnerExecution } from '../../agent/runner/runner-execution.ts';
import type { Failure } from '../../shared/errors.ts';
import type { ExitBody } from '../../shared/messages.ts';
import { eventually } from '../fakes/eventually.ts';
import { startHeldBytes } from '../fakes/held-bytes.ts';
import { runOn } from '../fakes/runner-run.ts';
import type { TestCluster } from './kubernetes-cluster.ts';

const MIB = 1_048_576;
const SLOW_MS = 60_000;
/** Three hops of a real cluster, each with a sender's and a receiver's buffer as large as Linux lets them grow. */
const MAX_ON_THE_WAY_BYTES = 3 * 36 * MIB;
/** A writer that waits so long is held back. */
const STILL_MS = 2_000;
/** All that outlives its processes: made in every way there is, then looked for. */
const LEAVE = `
import ctypes, os
libc, librt = ctypes.CDLL(None), ctypes.CDLL('librt.so.1')
libc.shmget(0x1234, 4096, 0o1600), libc.semget(0x1234, 1, 0o1600), libc.msgget(0x1234, 0o1600)
librt.mq_open(b'/left', 0o102, 0o600, None)
for path in ('/dev/mqueue/left', '/dev/shm/left', '/tmp/left', 'left'):
    try: open(path, 'a').write('left')
    except OSError: pass
# Closed by the directory above it: a kubelet's file is open to all, whatever the root is.
try: open('${TERMINATION_PATH}', 'a').write('left')
except PermissionError: print('out of reach')`;
const LOOK_FOR_LEFT = `
import ctypes, os
def names(path):
    try: return os.listdir(path)
    except OSError: return []
objects = [line for kind in ('shm', 'sem', 'msg') for line in open('/proc/sysvipc/' + kind).readlines()[1:]]
queue = ctypes.CDLL('librt.so.1').mq_open(b'/left', 0o2)
print([names(path) for path in ('/dev/mqueue', '/dev/shm', '/tmp', '.')], objects, queue)`;
/** Each line in one piece, a second apart. */
const TWO_WRITES = 'import os, time\nn = os.write(1, b"a\\n")\ntime.sleep(1)\nn = os.write(1, b"b\\n")';

// A real cluster takes seconds to start a pod, and tens of them under load.
vi.setConfig({ testTimeout: SLOW_MS, hookTimeout: SLOW_MS });

/** What a cluster and the backend on it must do, whether the cluster is real. */
export function describeKubernetes(name: string, open: () => Promise<TestCluster>): void {
  describe(name, () => {
    let cluster: TestCluster;
    let backend: KubernetesBackend;
    /** One sandbox for the tests that leave it as it was. */
    let shared: Sandbox;
    const soon = () => AbortSignal.timeout(SLOW_MS);

    beforeAll(async () => {
      cluster = await open();
      backend = await cluster.backend();
      shared = await backend.create(await cluster.template(), soon());
    });
    afterAll(() => cluster?.[Symbol.asyncDispose]());

    async function make(...[input]: Parameters<TestCluster['template']>): Promise<Sandbox> {
      const sandbox = await backend.create(await cluster.template(input), soon());
      onTestFinished(() => backend.destroy(sandbox));
      return sandbox;
    }

    const exec = (command: string[], sandbox = shared): Promise<ExecStream> =>
      openExec({
        access: cluster.client.access,
        namespace: cluster.namespace,
        pod: sandbox.id,
        container: CONTAINER,
        command,
        signal: soon(),
      });

    async function readAll(stream: ExecStream): Promise<Buffer> {
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks);
    }

    async function attach(sandbox: Sandbox, epoch: number) {
      const stream = await backend.connect(sandbox, soon());
      const runner = createRunnerClient({ stream, epoch });
      return { runner, ready: await runner.ready };
    }

    const path = (kind: string) => `/api/v1/namespaces/${cluster.namespace}/${kind}`;

    async function withObject(kind: string, body: object): Promise<void> {
      const made = await cluster.client.call<Pod>({ method: 'POST', path: path(kind), body });
      onTestFinished(async () => {
        await cluster.client.call({ method: 'DELETE', path: `${path(kind)}/${made.metadata?.name}` });
      });
    }

    test('a pod becomes a sandbox whose runner is ready and runs code without a call to the API', async () => {
      const hourMs = 3_600_000;
      const quiet = await cluster.backend({ installation: 'quiet', renewMs: hourMs, reapMs: hourMs });
      const sandbox = await quiet.create(await cluster.template(), soon());
      const runner = createRunnerClient({ stream: await quiet.connect(sandbox, soon()), epoch: 1 });
      expect(await runner.ready).toMatchObject({ ok: true, epoch: 1, missing: [] });
      const before = quiet.calls;
      for (let stream = 1; stream <= 3; stream += 1) {
        const ran = await runOn(runner, stream, 'print(1)', {});
        expect(ran.stdout).toBe('1\n');
        expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
      }
      expect(quiet.calls).toBe(before);
      await quiet.close();
    });

    test('a stream is replaced while code runs, and the code goes on', async () => {
      const sandbox = await make();
      const first = await attach(sandbox, 1);
      let execution: RunnerExecution | undefined;
      const lost = runOn(first.runner, 1, TWO_WRITES, {
        onExecution(started) {
          execution = started;
        },
        onData: () => first.runner.close(),
      });
      await expect(lost).rejects.toMatchObject({ code: 'sandbox_lost', started: 'yes' });
      const checkpoint = (execution as RunnerExecution).checkpoint();
      expect(checkpoint.offsets[1]).toBe(2);
      let rest = '';
      const exit = Promise.withResolvers<ExitBody>();
      const handlers: ExecutionHandlers = {
        started() {},
        data(_channel, _offset, bytes) {
          rest += Buffer.from(bytes).toString();
        },
        fileEnd() {},
        exit: exit.resolve,
        inputWindow() {},
        lost: exit.reject,
      };
      const stream = await backend.connect(sandbox, soon());
      const second = createRunnerClient({ stream, epoch: 2, resume: [{ checkpoint, handlers }] });
      expect((await second.ready).running).toEqual([1]);
      expect((await exit.promise).result).toMatchObject({ outcome: 'exited', stdout_bytes: 4 });
      expect(rest).toBe('b\n');
      second.close();
    });

    test('a reset leaves no queue, no System V object and no file, and no program reaches the termination log', async () => {
      const { runner } = await attach(await make({ reuse: 'reset' }), 1);
      const left = await runOn(runner, 1, LEAVE, { lastLine: false, collect: false });
      expect(left.stdout + left.stderr).toBe('out of reach\n');
      expect(await runner.reset(soon())).toEqual({ ok: true, leftovers: [] });
      const { stdout } = await runOn(runner, 2, LOOK_FOR_LEFT, { lastLine: false });
      expect(stdout).toBe("[[], [], [], ['__main__.py']] [] -1\n");
      // Also without the runner's own confinement: the image's directory is closed.
      const script = `test -w ${TERMINATION_PATH} && echo reached || echo closed`;
      expect(await readAll(await exec(['sh', '-c', script]))).toEqual(Buffer.from('closed\n'));
    });

    test('signals to PID 1 from inside leave it running', async () => {
      for (const signal of ['STOP', 'KILL', 'TERM', 'INT', 'HUP'])
        expect(await readAll(await exec(['sh', '-c', `kill -${signal} 1; echo sent`]))).toEqual(
          Buffer.from('sent\n'),
        );
      const { runner } = await attach(shared, 1);
      expect((await runOn(runner, 1, 'print("there")', {})).stdout).toBe('there\n');
      runner.close();
    });

    test.for([
      ['0', 'exit 0', { exitCode: 0 }],
      ['3', 'exit 3', { exitCode: 3, reason: 'NonZeroExitCode' }],
      ['255', 'exit 255', { exitCode: 255 }],
      ['137 of a command that was killed', 'kill -KILL $$', { exitCode: 137 }],
    ] as const)('an exec that ends with %s says so', async ([, script, status]) => {
      const stream = await exec(['sh', '-c', script]);
      expect(await readAll(stream)).toHaveLength(0);
      expect(stream.status).toMatchObject(status);
    });

    test('an exec whose command is not there ends with a status that is no result of it', async () => {
      const stream = await exec(['/nonexistent']);
      await readAll(stream).catch(() => {});
      expect(stream.status?.exitCode).not.toBe(0);
    });

    test('every byte passes both ways, and half-close ends the input', async () => {
      const bytes = Buffer.from(
        Array.from({ length: 3 * MIB }, (_, index) => (index * 7 + (index >> 8)) & 0xff),
      );
      const stream = await exec(['cat']);
      expect(stream.protocol).toBe('v5');
      stream.end(bytes);
      expect(Buffer.compare(await readAll(stream), bytes)).toBe(0);
      expect(stream.status?.exitCode).toBe(0);
    });

    test('stderr is drained while nobody reads it, and its end is kept', async () => {
      const stream = await exec([
        'sh',
        '-c',
        'head -c 3000000 /dev/zero | tr "\\0" x >&2; echo last >&2; echo out',
      ]);
      expect((await readAll(stream)).toString()).toBe('out\n');
      expect(stream.stderrTail()).toMatch(/^x+last\n$/);
      expect(stream.stderrTail()).toHaveLength(4096);
    });

    test('a reader that stalls holds the command back, not the memory', async () => {
      const stream = await exec(['sh', '-c', 'head -c 200000000 /dev/zero']);
      await once(stream, 'readable');
      const heldBytes = startHeldBytes('arrayBuffers');
      await new Promise((resolve) => setTimeout(resolve, 1500));
      expect(stream.readableLength).toBeLessThan(2 * MIB);
      await expect.poll(heldBytes).toBeLessThan(32 * MIB);
      stream.destroy();
    });

    test('a command that reads nothing holds the writer back, and the memory', async () => {
      const stream = await exec(['sleep', '120']);
      stream.on('error', () => {});
      const piece = Buffer.alloc(65_536);
      const heldBytes = startHeldBytes('arrayBuffers');
      let written = 0;
      let held = false;
      // What the kernels keep of it at each hop grows while they find a reader: some tens of MB, and none of them ours.
      while (!held && written < MAX_ON_THE_WAY_BYTES) {
        written += piece.byteLength;
        if (stream.write(piece)) continue;
        const drained = once(stream, 'drain').then(() => false);
        held = await Promise.race([
          drained,
          new Promise<boolean>((done) => setTimeout(done, STILL_MS, true)),
        ]);
      }
      process.stderr.write(
        `${name}: ${(written / MIB).toFixed(1)} MiB went before the writer was held back\n`,
      );
      expect(held).toBe(true);
      expect(stream.writableLength).toBeLessThan(MIB);
      await expect.poll(heldBytes).toBeLessThan(32 * MIB);
      stream.destroy();
    });

    test('v4 carries a runner too, where the server is held to it', async () => {
      const old = await cluster.backend({ installation: 'old', execProtocols: EXEC_PROTOCOLS.slice(1) });
      const sandbox = await old.create(await cluster.template(), soon());
      const stream = (await old.connect(sandbox, soon())) as ExecStream;
      expect(stream.protocol).toBe('v4');
      const runner = createRunnerClient({ stream, epoch: 1 });
      const bytes = 'x'.repeat(300_000);
      expect((await runOn(runner, 1, `print(len(${JSON.stringify(bytes)}))`, {})).stdout).toBe('300000\n');
      await old.close();
    });

    test('an exec into a pod that is not there is sandbox_lost', async () => {
      const gone = { ...shared, id: 'podgate-nobody' };
      await expect(exec(['true'], gone)).rejects.toMatchObject({ code: 'sandbox_lost' });
    });

    test('a sandbox that is destroyed ends its stream, is listed no more, and may be destroyed again', async () => {
      const sandbox = await make();
      const { runner } = await attach(sandbox, 1);
      expect((await backend.list()).map(({ id }) => id)).toContain(sandbox.id);
      await backend.destroy(sandbox);
      await runner.closed;
      expect((await backend.endOf(sandbox, soon()))?.why).toMatch(/deleted|exited/);
      expect((await backend.list()).map(({ id }) => id)).not.toContain(sandbox.id);
      await backend.destroy(sandbox);
      await expect(backend.connect(sandbox, soon())).rejects.toMatchObject({ code: 'sandbox_lost' });
    });

    test('a deletion that names another uid leaves the pod alone', async () => {
      await deletePod(cluster.client, cluster.namespace, { name: shared.id, uid: 'another' });
      expect((await readAll(await exec(['echo', 'here']))).toString()).toBe('here\n');
    });

    test.for([
      ['an image that does not exist', 'image_error', { image: 'registry.invalid/none:1' }],
      ['an interpreter that does not exist', 'image_error', { python: '/nonexistent/python3' }],
      [
        'a node that does not exist',
        'unschedulable',
        { kubernetes: { node_selector: { 'podgate.dev/none': 'here' } } },
      ],
    ] as const)('%s is %s, and leaves no pod', async ([, code, input]) => {
      const own = await cluster.backend({ unschedulableMs: 500, installation: 'failures' });
      const template = await cluster.template(input as never);
      await expect(own.create(template, soon())).rejects.toMatchObject({ code });
      await eventually(async () => (await own.list()).length === 0);
      await own.close();
    });

    /** The code with which a creation is refused; a sandbox that it makes all the same goes again. */
    async function refusedWith(): Promise<string | undefined> {
      try {
        await backend.destroy(await backend.create(await cluster.template(), soon()));
        return undefined;
      } catch (cause) {
        return (cause as Failure).code;
      }
    }

    // A controller counts what is there, and admission reads from a cache: both hold a moment later.
    test('a quota that is used up is quota_exceeded', async () => {
      const spec = { hard: { pods: '1' } };
      const kind = { apiVersion: 'v1', kind: 'ResourceQuota' };
      await withObject('resourcequotas', { ...kind, metadata: { name: 'few' }, spec });
      await eventually(async () => (await refusedWith()) === 'quota_exceeded');
    });

    test('a LimitRange that refuses the pod is policy_denied', async () => {
      const spec = { limits: [{ type: 'Container', max: { memory: '32Mi' } }] };
      const kind = { apiVersion: 'v1', kind: 'LimitRange' };
      await withObject('limitranges', { ...kind, metadata: { name: 'small' }, spec });
      await eventually(async () => (await refusedWith()) === 'policy_denied');
    });

    test('a namespace that does not exist is refused at once', async () => {
      const lost = cluster.backend({ namespace: 'podgate-nowhere' });
      await expect(lost).rejects.toMatchObject({ code: 'backend_unavailable', httpStatus: 404 });
    });

    test("a dead instance's pods are deleted by a living one, another installation's never", async () => {
      const template = await cluster.template();
      const dies = { installation: 'mortal', leaseSeconds: 1, renewMs: 3_600_000, reapMs: 3_600_000 };
      const dead = await cluster.backend(dies);
      const left = await dead.create(template, soon());
      const other = await cluster.backend({ ...dies, installation: 'other' });
      const others = await other.create(template, soon());
      const living = await cluster.backend({
        installation: 'mortal',
        leaseSeconds: 1,
        renewMs: 300,
        reapMs: 200,
        slackMs: 300,
      });
      expect((await living.list()).map(({ id }) => id)).toEqual([left.id]);
      await eventually(async () => (await living.list()).length === 0);
      expect(living.leads()).toBe(true);
      expect((await other.list()).map(({ id }) => id)).toEqual([others.id]);
    });

    test('an instance that closes leaves neither pod nor Lease', async () => {
      const own = await cluster.backend({ installation: 'closing' });
      await own.create(await cluster.template(), soon());
      await own.close();
      await eventually(async () => (await own.list()).length === 0);
      const leases = await cluster.client.call<{ items: Pod[] }>({
        method: 'GET',
        path: `/apis/coordination.k8s.io/v1/namespaces/${cluster.namespace}/leases`,
        query: { labelSelector: 'podgate.dev/installation=closing' },
      });
      expect(leases.items).toEqual([]);
    });

    test('a creation that is aborted leaves no pod', async () => {
      const own = await cluster.backend({ installation: 'aborted' });
      const abort = new AbortController();
      const creation = own.create(await cluster.template(), abort.signal);
      abort.abort(new Error('not wanted'));
      await expect(creation).rejects.toThrow('not wanted');
      await eventually(async () => (await own.list()).length === 0);
      await own.close();
    });

    test('sandboxes are made side by side, each with a user of its own', async () => {
      const sandboxes = await Promise.all([make(), make(), make()]);
      const ids = await Promise.all(
        sandboxes.map(async (each) => (await readAll(await exec(['id', '-u'], each))).toString()),
      );
      expect(new Set(ids).size).toBe(3);
      for (const id of ids) expect(Number(id)).toBeGreaterThanOrEqual(65_532);
    });
  });
}
