import type { Ready } from '../runner/messages.ts';
import type { Slot } from './sandbox-life.ts';
import type { SandboxEvent } from './sandbox-state.ts';
import type { SandboxRunner } from './steady-runner.ts';

/**
 * How a sandbox comes back: `reuse` as the template allows, `unused` because nothing ran in it, or `discard` because
 * nobody may have it any more.
 */
export type Verdict = 'reuse' | 'unused' | 'discard';
/** What became of it. `kept`: a session has it. */
export type Settled = 'returned' | 'reset' | 'discarded' | 'kept';

/** A warm sandbox in one execution's hands. */
export type Loan = {
  readonly sandboxId: string;
  readonly runner: SandboxRunner;
  readonly ready: Ready;
  /** The next of the runner's streams: taken in the turn in which it is begun, since the runner wants them in order. */
  nextStream(): number;
  /**
   * Gives the sandbox back, once. Resolves when it waits for the next one or is on its way out. Its reset is put off until
   * the execution is `answered`, for a moment, and while nobody waits for a sandbox.
   */
  release(verdict: Verdict, answered?: Promise<void>): Promise<Settled>;
};

export type LendingDeps = {
  report: (slot: Slot, event: SandboxEvent) => void;
  reset: (slot: Slot) => Promise<void>;
  /** Puts work off until the execution is answered, or for as long as it may wait. */
  whenAnswered: (work: () => void, answered: Promise<void> | undefined) => void;
  /** What becomes of a sandbox in which code ran. */
  afterUse: (slot: Slot) => 'reset' | 'give_back' | 'spent';
};

/** Puts sandboxes into executions' hands, and takes them back. */
export type Lending = {
  lend(slot: Slot, principal: string): Loan;
  /** Tells whoever gave the sandbox back what became of it. */
  settle(slot: Slot, settled: Settled): void;
};

export function createLending({ report, reset, whenAnswered, afterUse }: LendingDeps): Lending {
  const settling = new Map<Slot, (settled: Settled) => void>();

  function lend(slot: Slot, principal: string): Loan {
    const { runner, ready, sandbox } = slot;
    if (!runner || !ready || !sandbox) throw new RangeError('a sandbox is lent before it is ready');
    report(slot, 'take');
    let released = false;
    return {
      sandboxId: sandbox.id,
      runner,
      ready,
      nextStream() {
        slot.lastStream += 1;
        return slot.lastStream;
      },
      release(verdict, answered) {
        if (released) throw new RangeError('a sandbox is given back once');
        released = true;
        return giveBack(slot, principal, verdict, answered);
      },
    };
  }

  function giveBack(
    slot: Slot,
    principal: string,
    verdict: Verdict,
    answered: Promise<void> | undefined,
  ): Promise<Settled> {
    const settled = new Promise<Settled>((resolve) => settling.set(slot, resolve));
    const then = verdict === 'reuse' ? afterUse(slot) : verdict === 'unused' ? 'give_back' : 'discard';
    if (then === 'reset') {
      slot.owner = principal;
      report(slot, 'clean');
      const begin = () => {
        if (slot.state === 'resetting') void reset(slot);
      };
      whenAnswered(begin, answered);
    } else report(slot, then);
    return settled;
  }

  return {
    lend,
    settle(slot, settled) {
      settling.get(slot)?.(settled);
      settling.delete(slot);
    },
  };
}
