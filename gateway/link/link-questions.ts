import type { LinkPeer } from '../../shared/link-peer.ts';
import type { FROM_AGENT, FromAgent, FromGateway } from '../../shared/messages.ts';
import type { SessionAsk } from '../../shared/session-messages.ts';
import type { Timers } from '../gateway-deps.ts';
import type { LinkEffect } from './link-state.ts';
import { RefAsks } from './ref-asks.ts';
import { type StatusAnswer, StatusAsks } from './status-asks.ts';

export type LinkQuestionsOptions = {
  timers: Timers;
  peer: Pick<LinkPeer<typeof FROM_AGENT>, 'control'>;
  joined(): boolean;
};

/** Effects that bring an answer. */
export type AnswerEffect = Extract<LinkEffect, { do: `answer_${string}` }>;

/** What is asked of an agent on stream 0. An answer of null: none in time, or no link any more. */
export class LinkQuestions {
  readonly #options: LinkQuestionsOptions;
  readonly #status: StatusAsks;
  readonly #sessions: RefAsks<FromAgent['SESSION']>;
  readonly #claims: RefAsks<FromAgent['CLAIM']>;
  readonly #signals: RefAsks<FromAgent['SIGNAL']>;

  constructor(options: LinkQuestionsOptions) {
    this.#options = options;
    this.#status = new StatusAsks(options.timers);
    this.#sessions = new RefAsks(options.timers);
    this.#claims = new RefAsks(options.timers);
    this.#signals = new RefAsks(options.timers);
  }

  /** What the agent knows of an execution; with `fence` it will refuse one that it does not know. */
  status(executionId: string, fence: boolean, timeoutMs: number): Promise<StatusAnswer | null> {
    const { peer, joined } = this.#options;
    if (!joined()) return Promise.resolve(null);
    return this.#status.ask(timeoutMs, (ref) =>
      peer.control('STATUS', 0, { ref, execution_id: executionId, refuse_if_unknown: fence }),
    );
  }

  /** Ends an execution whose stream is elsewhere or nowhere. */
  cancel(executionId: string, reason: string, timeoutMs: number): Promise<StatusAnswer | null> {
    const { peer, joined } = this.#options;
    if (!joined()) return Promise.resolve(null);
    return this.#status.askEnd(executionId, timeoutMs, () =>
      peer.control('CANCEL', 0, { reason, execution_id: executionId }),
    );
  }

  /** Asks about one principal's sessions there. */
  sessions(question: Omit<SessionAsk, 'ref'>, timeoutMs: number): Promise<FromAgent['SESSION'] | null> {
    const { peer, joined } = this.#options;
    if (!joined()) return Promise.resolve(null);
    return this.#sessions.ask(timeoutMs, (ref) => peer.control('SESSION', 0, { ...question, ref }));
  }

  /** Asks it to keep an `Idempotency-Key` for an execution. */
  claim(question: Omit<FromGateway['CLAIM'], 'ref'>, timeoutMs: number): Promise<FromAgent['CLAIM'] | null> {
    const { peer, joined } = this.#options;
    if (!joined()) return Promise.resolve(null);
    return this.#claims.ask(timeoutMs, (ref) => peer.control('CLAIM', 0, { ...question, ref }));
  }

  /** Sends a signal to a program that runs there. */
  signal(
    question: Omit<FromGateway['SIGNAL'], 'ref'>,
    timeoutMs: number,
  ): Promise<FromAgent['SIGNAL'] | null> {
    const { peer, joined } = this.#options;
    if (!joined()) return Promise.resolve(null);
    return this.#signals.ask(timeoutMs, (ref) => peer.control('SIGNAL', 0, { ...question, ref }));
  }

  answer(effect: AnswerEffect): void {
    switch (effect.do) {
      case 'answer_status':
        this.#status.answer(effect.body);
        break;
      case 'answer_session':
        this.#sessions.answer(effect.body);
        break;
      case 'answer_claim':
        this.#claims.answer(effect.body);
        break;
      case 'answer_signal':
        this.#signals.answer(effect.body);
        break;
    }
  }

  /** The link is gone, and what was asked over it unanswered. */
  close(): void {
    this.#status.close();
    this.#sessions.close();
    this.#claims.close();
    this.#signals.close();
  }
}
