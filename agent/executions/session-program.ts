import { Failure } from '../../shared/errors.ts';
import { TERMINAL_IDLE_MS } from '../../shared/limits.ts';
import type { RunnerSessionWork } from '../../shared/session-messages.ts';
import type { SignalState } from '../../shared/signals.ts';
import type { Clock } from '../clock.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
import { createIdleWatch, type IdleWatch } from './idle-watch.ts';
import { feedsOn, LiveInput, type WriterPort } from './live-input.ts';
import type { ExecutionInput } from './port.ts';

export type SessionProgramDeps = {
  clock: Clock;
  session: RunnerSessionWork;
  /** Bytes of input in START. */
  inputBytes: number;
  /** Nobody wrote to a terminal or read of it for so long that it is to end. */
  onIdle: () => void;
};

/** What only a session's program takes while it runs: input, signals, and a terminal the attention of who uses it. */
export class SessionProgram {
  readonly #deps: SessionProgramDeps;
  readonly #input: LiveInput | undefined;
  #runner: RunnerExecution | undefined;
  #idle: IdleWatch | undefined;
  #isOver = false;

  constructor(deps: SessionProgramDeps) {
    this.#deps = deps;
    if (feedsOn(deps.session)) this.#input = new LiveInput(deps.inputBytes, () => this.touch());
  }

  /** User code runs. */
  begin(runner: RunnerExecution): void {
    const { clock, session, onIdle } = this.#deps;
    this.#runner = runner;
    this.#input?.begin(runner);
    if (session.do === 'terminal') this.#idle = createIdleWatch(clock, TERMINAL_IDLE_MS, onIdle);
  }

  /** Somebody uses it. */
  touch(): void {
    this.#idle?.touch();
  }

  /** The runner's WINDOW. */
  window(limit: number): void {
    this.#input?.window(limit);
  }

  /** A new stream to the runner, which has so many bytes of the input. */
  resume(received: number): void {
    this.#input?.resume(received);
  }

  /** Takes in one who feeds it. Throws the Failure that it is to be refused with. */
  feed(writer: string, port: WriterPort): ExecutionInput {
    if (!this.#input) throw takesNoInput();
    return this.#input.open(writer, port);
  }

  /** `interrupted`: the stream to its sandbox is being replaced. */
  signal(number: number, interrupted: boolean): SignalState {
    const { session } = this.#deps;
    if (session.do !== 'bash' && session.do !== 'python') return 'takes_none';
    if (this.#isOver) return 'over';
    if (!this.#runner) return 'waiting';
    if (interrupted) return 'unreachable';
    this.#runner.signal(number);
    return 'sent';
  }

  over(): void {
    this.#isOver = true;
    this.#input?.over();
    this.#idle?.stop();
  }
}

export function takesNoInput(): Failure {
  return new Failure('conflict', 'This program takes no input while it runs.');
}
