import type * as z from 'zod';
import type { FrameFault } from './frame.ts';
import { typeName } from './frame-type.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });
const EMPTY = encoder.encode('{}');

/** JSON body of a control frame. */
export function encodeBody(body: object): Uint8Array {
  return encoder.encode(JSON.stringify(body));
}

export const EMPTY_BODY: Uint8Array = EMPTY;

/** A control frame's name and checked body, as `receive` gives it. */
export type Received<Schemas extends Record<string, z.ZodType>> = {
  [Name in keyof Schemas & string]: { name: Name; body: z.infer<Schemas[Name]> };
}[keyof Schemas & string];

/**
 * Parses and checks a control frame against the schemas of the side that sent it. A type which that side may not send,
 * a body that is not JSON or not of the schema is a protocol error. The peer's words are not repeated in `detail`.
 */
export function decodeControl<Schemas extends Record<string, z.ZodType>>(
  schemas: Schemas,
  type: number,
  body: Uint8Array,
): Received<Schemas> | FrameFault {
  const name = typeName(type);
  const schema = name === undefined ? undefined : schemas[name];
  if (name === undefined || schema === undefined)
    return { code: 'protocol_error', detail: `frame type 0x${type.toString(16)} is not for this side` };
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(body));
  } catch {
    return { code: 'protocol_error', detail: `${name} is not JSON` };
  }
  const checked = schema.safeParse(value);
  if (!checked.success) {
    const at = checked.error.issues[0]?.path.join('.') ?? '';
    return { code: 'protocol_error', detail: `${name} does not fit its schema${at ? ` at ${at}` : ''}` };
  }
  return { name, body: checked.data } as Received<Schemas>;
}
