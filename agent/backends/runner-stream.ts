import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { shimCommand } from '../runner/bundle.ts';

/**
 * Said on stderr, where others may have complained before: a loader, of what its variables name. On stdout the runner has
 * the first word.
 */
const THERE = 'podgate-shim: there';
/** Of the end of what was said. */
const MAX_SAID = 1_024;
const RUNNER_WAIT_SECONDS = 30;

/**
 * An exec is open before the container is: behind the API server's translation even one into a container that does not
 * exist upgrades, and says so later. And a container runs before its runner listens. So the shim waits for the runner,
 * and says when it has found it.
 */
const WAIT = `
import sys, time, _socket
def wait():
    end = time.monotonic() + ${RUNNER_WAIT_SECONDS}
    while True:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(b"\\0podgate-runner")
            return
        except OSError:
            if time.monotonic() > end: raise
            time.sleep(0.01)
        finally:
            sock.close()
wait()
sys.stderr.write("${THERE}\\n")
sys.stderr.flush()
`;

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
  const [file = python, ...rest] = shimCommand(python);
  const shim = rest.pop() ?? '';
  const there = Promise.withResolvers<void>();
  there.promise.catch(() => {});
  let said = '';
  const refuse = (words: string, cause?: unknown) => {
    const reason = new Error(`${words} ${said}`.trim(), { cause });
    there.reject(new Failure('sandbox_lost', 'The sandbox has no runner that answers.', { cause: reason }));
  };
  const stream = await open({
    command: [file, ...rest, `${WAIT.trim()}\n${shim}`],
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
