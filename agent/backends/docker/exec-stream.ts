import { Duplex } from 'node:stream';
import { Failure } from '../../../shared/errors.ts';
import type { RunnerExec } from '../runner-stream.ts';
import { ANSWER } from './engine-answer.ts';
import type { EngineClient } from './engine-client.ts';
import { createStreamDecoder } from './stream-decoder.ts';

const READ_AHEAD_BYTES = 262_144;

export type ContainerExec = RunnerExec & { client: EngineClient; container: string };

/**
 * Runs a command in a container: what is written goes to its stdin, what is read is its stdout. Neither side is buffered
 * past its high-water mark: a reader that stops pauses the connection, and one that is full holds the writer back.
 * Rejects with a Failure where the engine refuses it or cannot be reached.
 */
export async function openContainerExec(options: ContainerExec): Promise<Duplex> {
  const { client, container, command, signal } = options;
  const body = { AttachStdin: true, AttachStdout: true, AttachStderr: true, Tty: false, Cmd: command };
  const path = `/containers/${container}/exec`;
  const { Id } = await client.call({ method: 'POST', path, body, signal }, ANSWER.exec);
  const connection = await client.hijack({
    method: 'POST',
    path: `/exec/${Id}/start`,
    body: { Detach: false, Tty: false },
    signal,
  });
  return createExecStream(connection, options);
}

/** The stream over a connection that the engine has handed over. It ends when the command does, and fails when the connection does. */
export function createExecStream(
  connection: Duplex,
  { onStderr, onEnd }: Pick<RunnerExec, 'onStderr' | 'onEnd'>,
): Duplex {
  let isOver = false;
  const decoder = createStreamDecoder({
    onStdout: (piece) => void (stream.push(piece) || connection.pause()),
    onStderr,
  });
  const stream = new Duplex({
    readableHighWaterMark: READ_AHEAD_BYTES,
    read: () => void connection.resume(),
    write: (chunk, _encoding, done) => void connection.write(chunk, done),
    writev(chunks, done) {
      connection.cork();
      const last = chunks.length - 1;
      chunks.forEach(({ chunk }, index) => {
        connection.write(chunk, index === last ? done : undefined);
      });
      connection.uncork();
    },
    final: (done) => void connection.end(done),
    destroy(cause, done) {
      connection.destroy();
      done(cause);
    },
  });

  function finish(how: string, failure?: Failure): void {
    if (isOver) return;
    isOver = true;
    if (failure) stream.destroy(failure);
    else stream.push(null);
    onEnd(how);
  }

  const fail = (how: string, cause?: unknown) =>
    finish(how, new Failure('sandbox_lost', `The exec stream ${how}.`, { cause, started: 'unknown' }));

  connection.on('data', (chunk: Buffer) => {
    const fault = isOver ? undefined : decoder.push(chunk);
    if (fault) fail(fault);
  });
  connection.on('end', () => (decoder.isWhole ? finish('ended') : fail('ended in the middle of a piece')));
  connection.on('error', (cause) => fail('failed', cause));
  connection.on('close', () => fail('was cut'));
  stream.once('end', () => stream.destroy());
  return stream;
}
