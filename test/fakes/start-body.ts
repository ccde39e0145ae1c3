import type { StartBody } from '../../shared/messages.ts';

/** What an ordinary caller asks for: four bytes of Python. */
export const START: StartBody = {
  execution_id: 'execution',
  tenant: 'acme',
  principal: 'acme/alice',
  holder: 'acme/alice',
  request_id: 'request',
  traceparent: null,
  cluster: 'here',
  template: 'default',
  language: 'python',
  last_line_interactive: true,
  sizes: { manifest: 0, code: 4, stdin: null, files: 0 },
  limits: {
    timeout_ms: 2_000,
    max_output_bytes: 1_000_000,
    memory_mb: null,
    cpu_seconds: null,
    output_limit_bytes: null,
  },
  concurrency: null,
  accept_within_ms: 5_000,
  queue_ms: 0,
  detach: false,
};
