import type { Timers } from '../../gateway/gateway-deps.ts';
import { createCutoff } from '../../gateway/http/cutoff.ts';
import { discardRest } from '../../gateway/http/discard.ts';
import { readBody } from '../../gateway/http/read-body.ts';
import { MemoryBudget } from '../../gateway/memory-budget.ts';

// Takes a body in single bytes in one of these ways, and says what the heap has grown by once all of it has come.
const [how = 'read', count = '1'] = process.argv.slice(2);
const collect = (globalThis as { gc?: () => void }).gc ?? (() => {});
const timers = { setTimeout: () => 0, clearTimeout() {} } as unknown as Timers;

function heldBytes(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const before = heldBytes();
let sent = 0;
const all = Promise.withResolvers<void>();
const never = Promise.withResolvers<never>();
const body = new ReadableStream<Uint8Array>(
  {
    pull(controller) {
      if (sent === Number(count)) {
        all.resolve();
        return never.promise;
      }
      sent += 1;
      controller.enqueue(new Uint8Array(1));
      return undefined;
    },
  },
  { highWaterMark: 0 },
);

if (how === 'read') {
  const request = new Request('http://gate.example', { method: 'POST', body, duplex: 'half' } as RequestInit);
  void readBody(request, {
    timers,
    memory: new MemoryBudget(2 ** 30),
    holder: { tenant: 'acme', holder: 'acme/alice' },
  });
} else if (how === 'discard') void discardRest(body.getReader(), timers);
else {
  const cutoff = createCutoff(never.promise);
  const reader = body.getReader();
  void (async () => {
    for (;;) await cutoff.race(reader.read());
  })();
}
await all.promise;
process.stdout.write(String(heldBytes() - before));
process.exit(0);
