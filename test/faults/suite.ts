import { afterAll, beforeAll } from 'vitest';
import type { ExecuteRequest, ExecuteResult } from '../../client/types.ts';
import { type Fleet, type FleetGateway, type FleetOptions, startFleet } from '../fakes/fleet.ts';
import { counted } from '../fakes/run-counter.ts';
import { describeSandboxed, stackTrouble } from '../system/suite.ts';

const START_MS = 120_000;

/** Gateways and agents as processes, shared by the tests of `body`; each test finds them all running and linked. */
export function describeFleet(
  title: string,
  options: FleetOptions,
  body: (fleet: () => Fleet) => void,
): void {
  describeSandboxed(title, () => {
    let fleet: Fleet | undefined;
    beforeAll(async () => {
      if ((await stackTrouble()) === undefined) fleet = await startFleet(options);
    }, START_MS);
    afterAll(async () => {
      await fleet?.[Symbol.asyncDispose]();
    }, START_MS);
    body(() => fleet as Fleet);
  });
}

/** What one request was answered. */
export type Answer = {
  status: number;
  body: ExecuteResult & { code?: string; detail?: string; started?: string; retryable?: boolean };
  headers: Headers;
  tookMs: number;
};

export type Asked = {
  readonly answer: Promise<Answer> /** How often the program has run. */;
  readonly runs: () => number;
  leave(): void;
  /** The same request once more. */
  again(): Asked;
};

export type AskOptions = Omit<Partial<ExecuteRequest>, 'code'> & {
  gateway?: FleetGateway;
  key?: string;
  headers?: Record<string, string>;
};

/** One request to the fleet whose program counts itself; nothing is tried twice. */
export function ask(
  fleet: Fleet,
  code: string,
  options: AskOptions = {},
  name: string = crypto.randomUUID(),
): Asked {
  const { gateway, key = fleet.key, headers = {}, ...rest } = options;
  const leaving = new AbortController();
  const send = async (): Promise<Answer> => {
    const beganMs = performance.now();
    const response = await fetch(`${gateway?.url ?? fleet.url}/v1/execute`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ code: counted(fleet.counter.at, name) + code, ...rest }),
      signal: leaving.signal,
    });
    const body = (await response.json()) as Answer['body'];
    return { status: response.status, body, headers: response.headers, tookMs: performance.now() - beganMs };
  };
  const answer = send();
  answer.catch(() => {});
  return {
    answer,
    runs: () => fleet.counter.count(name),
    leave: () => leaving.abort(),
    again: () => ask(fleet, code, options, name),
  };
}
