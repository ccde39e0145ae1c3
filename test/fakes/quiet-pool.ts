import type { Backend } from '../../agent/backends/backend.ts';
import { createPool, type Pool } from '../../agent/pool/pool.ts';
import { parseTemplate, type TemplateInput } from '../../shared/template.ts';
import type { FakeClock } from './fake-clock.ts';

/** A pool of the template `default` that has filled itself, of which nobody is told anything. */
export async function createQuietPool(
  backend: Backend,
  clock: FakeClock,
  template: Omit<TemplateInput, 'name'>,
): Promise<Pool> {
  const pool = createPool({
    backend,
    clock,
    template: await parseTemplate({ name: 'default', ...template }),
    random: () => 0.5,
    log: () => {},
    onChange: () => {},
  });
  await clock.settle();
  return pool;
}
