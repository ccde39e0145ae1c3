import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

/** What a process logged, one object after the other; what else stands in its log is passed over. */
export async function* readLogLines(path: string): AsyncGenerator<Record<string, unknown>> {
  for await (const text of createInterface(createReadStream(path)))
    if (text.startsWith('{')) yield JSON.parse(text) as Record<string, unknown>;
}
