import type { FromAgent, FromGateway } from '../../shared/messages.ts';
import type { GatewayDeps } from '../gateway-deps.ts';

export type LinkPulseOptions = Pick<GatewayDeps, 'config' | 'elapsed' | 'timers'> & {
  send(body: FromGateway['HEARTBEAT']): void;
  /** Executions that run over the link. */
  running(): number;
  /** Before every heartbeat; false ends the pulse. */
  beforeBeat(): boolean;
  /** Nothing was heard for `deadMs`. */
  silent(): void;
};

/** Heartbeats of one link, and the look at whether its peer still lives (shared/protocol.md 10.1). */
export class LinkPulse {
  readonly #options: LinkPulseOptions;
  #timer: unknown;
  #beats = 0;
  #beatDueMs: number | undefined;
  lastHeardMs: number;

  constructor(options: LinkPulseOptions) {
    this.#options = options;
    this.lastHeardMs = options.elapsed();
  }

  heard(): void {
    this.lastHeardMs = this.#options.elapsed();
  }

  /** Takes the peer's heartbeat, and answers it where it asks for that. */
  take({ id, reply }: FromAgent['HEARTBEAT']): void {
    const { send, running } = this.#options;
    if (reply) send({ id: this.#beats, reply: false, echo: id, running: running() });
  }

  start(): void {
    const { config, timers, elapsed } = this.#options;
    const nowMs = elapsed();
    this.#beatDueMs ??= nowMs + config.heartbeatMs;
    // A timer may ring a fraction early: it is what is left that is waited for then, not a whole heartbeat.
    const inMs = Math.min(this.#beatDueMs, this.lastHeardMs + config.deadMs) - nowMs;
    timers.clearTimeout(this.#timer);
    this.#timer = timers.setTimeout(() => this.#beat(), Math.max(1, Math.ceil(inMs)));
  }

  stop(): void {
    this.#options.timers.clearTimeout(this.#timer);
  }

  #beat(): void {
    const { config, elapsed, silent, beforeBeat, send, running } = this.#options;
    const nowMs = elapsed();
    if (nowMs - this.lastHeardMs >= config.deadMs) silent();
    else if (beforeBeat()) {
      // Woken early to look for silence: that is no reason to speak.
      if (this.#beatDueMs !== undefined && nowMs >= this.#beatDueMs) {
        this.#beats += 1;
        this.#beatDueMs = nowMs + config.heartbeatMs;
        send({ id: this.#beats, reply: true, echo: null, running: running() });
      }
      this.start();
    }
  }
}
