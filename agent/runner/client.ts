import type { Duplex } from 'node:stream';
import { Failure } from '../../shared/errors.ts';
import { faultText } from '../../shared/fault-text.ts';
import type { Frame, FrameFault } from '../../shared/frame.ts';
import { TYPE, typeName } from '../../shared/frame-type.ts';
import { MAX_RESULT_FILES } from '../../shared/limits.ts';
import {
  type Checkpoint,
  createExecutionStream,
  type ExecutionHandlers,
  type ExecutionStream,
  freshCheckpoint,
} from './execution-stream.ts';
import { broken, withBody } from './frame-body.ts';
import { createFrameReader, createFrameWriter } from './frame-stream.ts';
import type { RunnerStartBody } from './messages.ts';
import {
  FROM_RUNNER,
  ON_EXECUTION,
  ON_STREAM_ZERO,
  type Pong,
  type Ready,
  type ResetDone,
} from './messages.ts';
import { createQuestions, notWhileBusy } from './questions.ts';
import { createRunnerExecution, type RunnerExecution } from './runner-execution.ts';

/** What a runner may leave unread: the input of all that a session runs, and much beside it. Signals and sizes have no window. */
export const MAX_UNREAD_BYTES = 16_777_216;

export type RunnerClientDeps = {
  /** To the sandbox's runner; ended and destroyed with the client. */
  stream: Duplex;
  /** 1 on the first stream of a sandbox, one more on every stream that replaces it. */
  epoch: number;
  /** Executions of the epoch before that are to go on here. */
  resume?: readonly { checkpoint: Checkpoint; handlers: ExecutionHandlers }[];
  /** Files that the runner's configuration lets it collect. */
  maxFiles?: number;
  onClosed?: (reason: Failure) => void;
  log?: (event: string, fields: Record<string, unknown>) => void;
};

export type RunnerClient = {
  readonly epoch: number;
  /** Rejects with the reason when the stream ends before. */
  readonly ready: Promise<Ready>;
  /** Why the stream ended. `protocol_error` and `too_large`: the sandbox sent what it must not and is to be discarded. */
  readonly closed: Promise<Failure>;
  /** Stream ids count up. What is written in the same turn of the event loop leaves in one system call. */
  start(streamId: number, body: RunnerStartBody, handlers: ExecutionHandlers): RunnerExecution;
  /** In the order of `resume`. */
  readonly resumed: readonly RunnerExecution[];
  ping(signal: AbortSignal): Promise<Pong>;
  /** Empties the sandbox. Only while nothing runs. */
  reset(signal: AbortSignal): Promise<ResetDone>;
  /** Gives the stream up: executions under way are `lost`, and go on in the sandbox. */
  close(): void;
};

/**
 * The agent's end of one byte stream to a runner. Whatever the sandbox sends, memory stays within one frame plus what
 * windows allow, and the first byte out of place ends the stream with a reason.
 */
export function createRunnerClient(deps: RunnerClientDeps): RunnerClient {
  const { stream, epoch, maxFiles = MAX_RESULT_FILES } = deps;
  const executions = new Map<number, ExecutionStream>();
  const writer = createFrameWriter(epoch, stream);
  const reader = createFrameReader(epoch, onFrame);
  const ready = Promise.withResolvers<Ready>();
  const closed = Promise.withResolvers<Failure>();
  ready.promise.catch(() => {});
  const questions = createQuestions(control);

  let reason: Failure | undefined;
  let isReady = false;
  let sent = 0;
  let received = 0;
  let lastStream = 0;

  stream.on('data', (chunk: Uint8Array) => {
    if (reason) return;
    try {
      const fault = reader.push(chunk);
      if (fault && !reason)
        end(new Failure(fault.code, `The runner broke its protocol: ${fault.detail}.`), true);
    } catch (cause) {
      // A fault of ours that a frame brought to light must end its stream, not the process with all that runs.
      deps.log?.('runner_stream_broke', { epoch, cause: faultText(cause) });
      end(new Failure('internal', 'The agent failed.', { cause }));
    }
  });
  stream.on('end', () => end(lostStream('ended')));
  stream.on('error', (cause) => end(lostStream('failed', cause)));
  stream.on('close', () => end(lostStream('closed')));

  function onFrame(frame: Frame): FrameFault | undefined {
    if (reason) return { code: 'protocol_error', detail: 'stopped' };
    const { type } = frame;
    if (type === TYPE.DATA || type === TYPE.END) return onExecutionFrame(frame);
    if (frame.sequence !== received + 1) return broken(`control frame ${frame.sequence} after ${received}`);
    received += 1;
    if (frame.channel !== 0) return broken(`channel ${frame.channel} on a control frame`);
    if (ON_EXECUTION.has(type)) return onExecutionFrame(frame);
    if (!ON_STREAM_ZERO.has(type)) return broken(`type 0x${type.toString(16)} from a runner`);
    if (frame.stream !== 0) return broken(`${typeName(type)} on stream ${frame.stream}`);
    if (type === TYPE.READY) return withBody(frame, FROM_RUNNER.READY, onReady);
    if (type === TYPE.PONG) return withBody(frame, FROM_RUNNER.PONG, questions.onPong);
    return withBody(frame, FROM_RUNNER.RESET_DONE, questions.onResetDone);
  }

  function onExecutionFrame(frame: Frame): FrameFault | undefined {
    const execution = executions.get(frame.stream);
    if (!execution) {
      // Where it was dropped, a runner could send without end what nobody's window bounds.
      const { stream: id } = frame;
      return broken(id === 0 || id > lastStream ? `stream ${id} never was` : `stream ${id} has ended`);
    }
    switch (frame.type) {
      case TYPE.DATA:
        return execution.onData(frame.channel, frame.sequence, frame.body);
      case TYPE.STARTED:
        return withBody(frame, FROM_RUNNER.STARTED, () => execution.onStarted());
      case TYPE.WINDOW:
        return withBody(frame, FROM_RUNNER.WINDOW, ({ limit, received }) =>
          execution.onWindow(limit, received),
        );
      case TYPE.END:
        return withBody(frame, FROM_RUNNER.END, (file) =>
          execution.onEnd(frame.channel, frame.sequence, file),
        );
      default:
        return withBody(frame, FROM_RUNNER.EXIT, (exit) => {
          executions.delete(frame.stream);
          const fault = execution.onExit(exit);
          if (fault) executions.set(frame.stream, execution);
          return fault;
        });
    }
  }

  function onReady(body: Ready): FrameFault | undefined {
    if (isReady) return broken('READY came twice');
    if (body.epoch !== epoch) return broken('READY names another epoch');
    isReady = true;
    ready.resolve(body);
    return undefined;
  }

  function control(type: number, streamId: number, body: unknown): void {
    if (reason || stream.destroyed) return;
    if (stream.writableLength > MAX_UNREAD_BYTES) {
      stream.destroy(new Error('the runner does not read'));
      return;
    }
    sent += 1;
    writer.send({
      type,
      channel: 0,
      stream: streamId,
      sequence: sent,
      body: Buffer.from(JSON.stringify(body)),
    });
  }

  function end(why: Failure, byFault = false): void {
    if (reason) return;
    reason = why;
    if (byFault) deps.log?.('runner_protocol_broken', { code: why.code, detail: why.detail, epoch });
    // Our 'error' listener stays: a write under way may still fail.
    stream.destroy();
    ready.reject(why);
    questions.end(why);
    const lost = [...executions.values()];
    executions.clear();
    for (const execution of lost) execution.lost(why);
    closed.resolve(why);
    deps.onClosed?.(why);
  }

  function adopt(checkpoint: Checkpoint, handlers: ExecutionHandlers): RunnerExecution {
    const { streamId } = checkpoint;
    if (streamId <= lastStream) throw new RangeError(`stream ${streamId} is not above ${lastStream}`);
    lastStream = streamId;
    const execution = createExecutionStream(checkpoint, handlers, maxFiles);
    executions.set(streamId, execution);
    const over = () => reason !== undefined || executions.get(streamId) !== execution;
    return createRunnerExecution(execution, writer, control, over);
  }

  function start(streamId: number, body: RunnerStartBody, handlers: ExecutionHandlers): RunnerExecution {
    if (reason) throw reason;
    const { limits, rich } = body;
    const execution = adopt(freshCheckpoint(streamId, limits.max_output_bytes, rich ? 1 : 0), handlers);
    control(TYPE.START, streamId, body);
    return execution;
  }

  const resumed = (deps.resume ?? []).map(({ checkpoint, handlers }) =>
    adopt({ ...checkpoint, inputUnknown: true }, handlers),
  );
  const offsets = Object.fromEntries(
    [...executions].map(([id, { at }]) => [id, { ...at.offsets, started: at.started, files: at.files }]),
  );
  control(TYPE.ATTACH_RUNNER, 0, { epoch, offsets });
  // It says no more that it has ended.
  if (stream.destroyed) queueMicrotask(() => end(lostStream('closed')));

  return {
    epoch,
    ready: ready.promise,
    closed: closed.promise,
    start,
    resumed,
    ping: questions.ping,
    reset: (signal) => (executions.size > 0 ? Promise.reject(notWhileBusy()) : questions.reset(signal)),
    close: () => end(new Failure('sandbox_lost', 'The stream to the sandbox was closed by its owner.')),
  };
}

function lostStream(how: string, cause?: unknown): Failure {
  return new Failure('sandbox_lost', `The stream to the sandbox ${how}.`, { cause, started: 'unknown' });
}
