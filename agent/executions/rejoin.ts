import { Failure } from '../../shared/errors.ts';
import type { FromGateway } from '../../shared/messages.ts';
import type { LiveExecutions } from './live-executions.ts';
import type { WriterPort } from './live-input.ts';
import type { ExecutionInput, ExecutionPort } from './port.ts';
import type { Registry } from './registry.ts';

/** Lets somebody read an execution that is under way or over. Undefined: it is over, and the port has been told all there is. */
export function attachTo(
  request: FromGateway['ATTACH'],
  port: ExecutionPort,
  running: LiveExecutions,
  registry: Registry,
): ExecutionInput | undefined {
  const { execution_id, reader, offsets, files, pending } = request;
  // Its link is lost, though nobody here has noticed: what was still to come of its input never will.
  if (reader === null) running.get(execution_id)?.execution.strand();
  const record = registry.get(execution_id);
  if (!record) throw new Failure('not_found', 'This agent does not know the execution.');
  const from = { reader, offsets: { 1: offsets[1], 2: offsets[2], 3: offsets[3] }, files, pending };
  const handle = record.output.attach(port, from, record.told);
  const live = running.get(execution_id);
  // Its input is whole: there is none to take.
  return live && { ...handle, data: () => false, end: () => false, cancel: live.execution.cancel };
}

/** Takes in one who feeds a program that runs. */
export function feedTo(
  { execution_id, writer }: FromGateway['INPUT'],
  port: ExecutionPort & WriterPort,
  running: LiveExecutions,
  registry: Registry,
): ExecutionInput {
  const live = running.get(execution_id);
  if (live) return live.execution.feed(writer, port);
  if (registry.get(execution_id)) throw new Failure('conflict', 'The program has ended.');
  throw new Failure('not_found', 'No such program runs at this agent.');
}
