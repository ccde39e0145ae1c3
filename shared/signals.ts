import * as z from 'zod';

/** What may be sent to a program that runs, by Linux's numbers: the same on every machine that Podgate runs on. */
export const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGWINCH: 28,
} as const;
export type SignalName = keyof typeof SIGNALS;

export const signalName = z.enum(Object.keys(SIGNALS) as [SignalName, ...SignalName[]]);

/** What became of one: `sent` to the sandbox; no such execution; it has ended, takes none, has not begun, cannot be reached. */
export const SIGNAL_STATES = ['sent', 'unknown', 'over', 'takes_none', 'waiting', 'unreachable'] as const;
export type SignalState = (typeof SIGNAL_STATES)[number];
