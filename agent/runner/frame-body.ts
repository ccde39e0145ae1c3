import type * as z from 'zod';
import type { Frame, FrameFault } from '../../shared/frame.ts';
import { typeName } from '../../shared/frame-type.ts';

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Hands a control frame's body to `use` once its schema has it; what a runner got wrong otherwise. */
export function withBody<T extends z.ZodType>(
  frame: Frame,
  schema: T,
  use: (body: z.output<T>) => FrameFault | undefined,
): FrameFault | undefined {
  const name = typeName(frame.type);
  let value: unknown;
  try {
    value = JSON.parse(UTF8.decode(frame.body));
  } catch {
    return broken(`${name} is not JSON in UTF-8`);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) return broken(`${name} has a member that is missing or mistyped`);
  return use(parsed.data);
}

export function broken(detail: string): FrameFault {
  return { code: 'protocol_error', detail };
}
