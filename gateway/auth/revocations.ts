import type { KeyKind } from '../../shared/claims.ts';
import type { Deniable } from './deny-list.ts';
import type { AuthLog } from './documents.ts';

/** What of an accepted key may be taken back: a `Caller` and an `AuthenticatedAgent` both have it. */
export type Revocable = Deniable & {
  readonly kind: KeyKind;
  readonly kid: string;
  readonly signedBy: string;
};

/** Aborts when its key is revoked; disposing of it ends the watch. */
export type Revocation = { readonly signal: AbortSignal } & Disposable;

export type Revocations = {
  watch(key: Revocable): Revocation;
  onChange(listener: () => void): () => void;
  /** Deny-list or keys are others than before: aborts what is revoked now, then tells the listeners. */
  changed(): void;
};

export function createRevocations(deps: {
  isRevoked: (key: Revocable) => boolean;
  log: AuthLog;
}): Revocations {
  const { isRevoked, log } = deps;
  const watched = new Map<AbortController, Revocable>();
  const listeners = new Set<() => void>();

  function end(controller: AbortController): void {
    watched.delete(controller);
    controller.abort(new DOMException('The key was revoked.', 'AbortError'));
  }

  return {
    watch(key) {
      const controller = new AbortController();
      watched.set(controller, key);
      if (isRevoked(key)) end(controller);
      return { signal: controller.signal, [Symbol.dispose]: () => void watched.delete(controller) };
    },
    onChange(listener) {
      // Wrapped: the same function may be given twice.
      const own = () => listener();
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    changed() {
      for (const [controller, key] of [...watched]) if (isRevoked(key)) end(controller);
      for (const listener of [...listeners]) {
        try {
          listener();
        } catch (error) {
          // One listener's fault must not keep the others' streams alive.
          log({ level: 'warn', event: 'revocation_listener_failed', trouble: String(error).slice(0, 500) });
        }
      }
    },
  };
}
