import type { StartBody } from '../../shared/messages.ts';
import type { ExecutionOrder } from './execution-order.ts';
import type { StartParts } from './run-start.ts';

/** START of an execution (shared/protocol.md section 7). */
export function startBodyOf(
  order: ExecutionOrder,
  { executionId, session }: StartParts,
  cluster: string,
  acceptWithinMs: number,
  queueMs: number,
): StartBody {
  const { caller, template, language } = order.wanted;
  return {
    execution_id: executionId,
    tenant: caller.tenant,
    principal: caller.principal,
    holder: caller.holder,
    request_id: order.requestId,
    traceparent: order.traceparent,
    cluster,
    template,
    // Whoever opens a session names none.
    language: (language ?? 'bash') as StartBody['language'],
    last_line_interactive: order.lastLineInteractive,
    sizes: order.input.sizes,
    limits: {
      timeout_ms: order.timeoutMs,
      max_output_bytes: order.maxOutputBytes,
      memory_mb: order.memoryMb,
      cpu_seconds: order.cpuSeconds,
      output_limit_bytes: order.outputLimitBytes,
    },
    concurrency: caller.limits.concurrency,
    accept_within_ms: acceptWithinMs,
    queue_ms: queueMs,
    detach: order.survives,
    ...(order.key && { key: order.key.id }),
    ...(session && { session }),
    ...(order.document === 'before_files' && { rich: true }),
  };
}
