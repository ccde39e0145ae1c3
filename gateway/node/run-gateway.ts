import { faultText } from '../../shared/fault-text.ts';
import { createLineWriter } from '../../shared/log-lines.ts';
import type { Log } from '../gateway-deps.ts';
import type { GatewayProcessConfig } from './config.ts';
import { createJsonLog } from './json-log.ts';
import { type RunningGateway, type ServeGatewayOptions, serveGateway } from './serve-gateway.ts';

export type RunGatewayDeps = { config: GatewayProcessConfig; version: string; log?: Log };

/**
 * The process of `podgate gateway`: runs until SIGTERM or SIGINT, then drains. Resolves with the exit code when nothing
 * is left. A second signal ends what still runs at once.
 */
export async function runGateway({ config, version, ...deps }: RunGatewayDeps): Promise<number> {
  const log = deps.log ?? createJsonLog(createLineWriter(process.stdout));
  const signalled = Promise.withResolvers<void>();
  const starting = new AbortController();
  const again = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = () => {
    signals += 1;
    if (signals === 1) {
      signalled.resolve();
      starting.abort();
    } else again.resolve();
  };
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, onSignal);
  // A fault of ours in what nobody waits for: it ends at its own deadline, and not with the process and everybody's.
  const onFault = (cause: unknown) => log({ level: 'error', event: 'fault', cause: faultText(cause) });
  process.on('unhandledRejection', onFault);
  // The gateway's timers keep no process alive, and one that listens no more may have nothing else for a moment.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    const running = await started({ config, version, log, signal: starting.signal });
    if (!running) {
      log({ level: 'info', event: 'gateway_stopped' });
      return 0;
    }
    const { url, metricsPort } = running;
    log({ level: 'info', event: 'gateway_started', version, url, metrics_port: metricsPort });
    await signalled.promise;
    log({
      level: 'info',
      event: 'gateway_draining',
      delay_ms: config.drainDelayMs,
      deadline_ms: config.drainMs,
    });
    const drained = running.drain(config.drainMs, config.drainDelayMs);
    await Promise.race([drained, again.promise]);
    await running.close();
    await drained;
    log({ level: 'info', event: 'gateway_stopped' });
    return 0;
  } finally {
    clearInterval(alive);
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.off(name, onSignal);
    process.off('unhandledRejection', onFault);
  }
}

/** Null where it was told to end before it had begun: keys that do not come keep it from nothing. */
async function started(
  options: ServeGatewayOptions & { signal: AbortSignal },
): Promise<RunningGateway | null> {
  try {
    return await serveGateway(options);
  } catch (error) {
    if (!options.signal.aborted || error !== options.signal.reason) throw error;
    return null;
  }
}
