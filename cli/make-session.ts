import type { Podgate } from '../client/podgate.ts';
import type { Session } from '../client/sessions.ts';
import type { Io } from './io.ts';
import { wholeNumber } from './whole-number.ts';

/** Options of a new session, as they were typed. */
export type SessionWish = {
  template?: string | undefined;
  ttl?: string | undefined;
  idle?: string | undefined;
};

export function makeSession(
  podgate: Podgate,
  { template, ttl, idle }: SessionWish,
  io: Io,
): Promise<Session> {
  const request = {
    ...(template !== undefined && { template }),
    ...(ttl !== undefined && { ttl_seconds: wholeNumber('--ttl', ttl) }),
    ...(idle !== undefined && { idle_seconds: wholeNumber('--idle', idle) }),
  };
  return podgate.sessions.create(request, { signal: io.signal });
}
