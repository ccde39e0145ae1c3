import type { ErrorCode } from '../../shared/errors.ts';

/** Carries out the effects of one step in their order. Returns what the peer did wrong, if that was among them. */
export function carryOutAll<Effect extends { do: string }>(
  effects: readonly (Effect | { do: 'fault' })[],
  carryOut: (effect: Exclude<Effect, { do: 'fault' }>) => void,
): ErrorCode | null {
  let fault: ErrorCode | null = null;
  for (const effect of effects) {
    if (effect.do === 'fault') fault = 'protocol_error';
    else carryOut(effect as Exclude<Effect, { do: 'fault' }>);
  }
  return fault;
}
