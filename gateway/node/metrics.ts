import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { GatewayStatus } from '../create-gateway.ts';
import type { ExecutionRecord } from '../execution/execution-record.ts';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Of the event loop's delay. */
const EVENT_LOOP_PRECISION_MS = 500;

export type GatewayMetrics = {
  readonly contentType: string;
  render(): Promise<string>;
  /** Hangs on `onExecutionEnd`. */
  observe(record: ExecutionRecord): void;
};

/** Metrics of one gateway. No label names a tenant, a principal or an id: there may be any number of them. */
export function createGatewayMetrics(status: () => GatewayStatus): GatewayMetrics {
  const registry = new Registry();
  const registers = [registry];
  // Their default looks a hundred times a second, idle or not.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });
  const executions = new Counter({
    name: 'podgate_gateway_executions_total',
    help: 'Executions that are over, by outcome, or by code where the code did not run to an outcome',
    labelNames: ['result', 'streamed'],
    registers,
  });
  const phases = new Histogram({
    name: 'podgate_gateway_execution_seconds',
    help: 'Time that executions spent in each phase',
    labelNames: ['phase'],
    buckets: SECONDS,
    registers,
  });
  const bytes = new Counter({
    name: 'podgate_gateway_execution_bytes_total',
    help: 'Bytes into and out of executions',
    labelNames: ['direction'],
    registers,
  });
  const gauges = {
    links: 'Links of agents',
    pendingLinks: 'Sockets of agents that have not joined',
    running: 'Executions that have not ended',
    queued: 'Executions that wait for a slot',
    requestBytes: 'Bytes of requests that are held',
    outputBytes: 'Bytes that are held for output',
  } as const;
  for (const [field, help] of Object.entries(gauges)) {
    const name = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    new Gauge({
      name: `podgate_gateway_${name}`,
      help,
      registers,
      collect() {
        this.set(status()[field as keyof typeof gauges]);
      },
    });
  }
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    observe(record) {
      executions.inc({
        result: record.outcome ?? record.code ?? 'unknown',
        streamed: String(record.streamed),
      });
      for (const phase of ['queue', 'accept', 'start', 'run', 'total'] as const) {
        const ms = record[`${phase}_ms`];
        if (ms !== null) phases.observe({ phase }, ms / 1_000);
      }
      bytes.inc({ direction: 'in' }, record.bytes_in);
      bytes.inc({ direction: 'out' }, record.stdout_bytes + record.stderr_bytes + record.file_bytes_out);
    },
  };
}
