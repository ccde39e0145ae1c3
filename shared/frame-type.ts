/** Frame types of shared/protocol.md section 4; 0x40 and up are the runner's (agent/runner/protocol.md 3). */
export const TYPE = {
  CHALLENGE: 0x01,
  HELLO: 0x02,
  WELCOME: 0x03,
  AUTH_REFRESH: 0x04,
  HEARTBEAT: 0x05,
  SLOTS: 0x06,
  START: 0x10,
  ACCEPT: 0x11,
  NACK: 0x12,
  STARTED: 0x13,
  DATA: 0x14,
  END: 0x15,
  WINDOW: 0x16,
  CANCEL: 0x17,
  EXIT: 0x18,
  RESULT_ACK: 0x19,
  STATUS: 0x20,
  ATTACH: 0x21,
  REPLAY_GAP: 0x22,
  DETACH: 0x23,
  SESSION: 0x24,
  CLAIM: 0x25,
  INPUT: 0x26,
  SIGNAL: 0x27,
  RESIZE: 0x28,
  GOAWAY: 0x30,
  DRAIN: 0x31,
  ATTACH_RUNNER: 0x40,
  READY: 0x41,
  PING: 0x42,
  PONG: 0x43,
  RESET: 0x44,
  RESET_DONE: 0x45,
} as const;

export type TypeName = keyof typeof TYPE;

const TYPE_NAMES = new Map<number, TypeName>(
  Object.entries(TYPE).map(([name, type]) => [type, name as TypeName]),
);

export function typeName(type: number): TypeName | undefined {
  return TYPE_NAMES.get(type);
}

export const CHANNEL = { input: 0, stdout: 1, stderr: 2, files: 3 } as const;
