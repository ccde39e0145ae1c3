import { troubleForCallers } from '../../shared/errors.ts';
import type { Trouble } from '../pool/creation-trouble.ts';
import type { Pool } from '../pool/pool.ts';
import type { TemplateWatch } from './template-watch.ts';

export type GuardPoolDeps = {
  pool: Pool;
  watch: TemplateWatch;
  /** False: the watch only reports. */
  refuses: boolean;
  /** Its sandboxes may outlive the pool's for as long as the backend takes to end them. */
  onClosed: (over: Promise<void>) => void;
};

/** A pool as callers get it: nothing runs before the template's isolation is proven, and nothing once it is not. */
export function guardPool({ pool, watch, refuses, onClosed }: GuardPoolDeps): Pool {
  let closed = false;
  const phase = () => (refuses ? watch.verdict.phase : 'proven');
  const refusal = (): Trouble | null => {
    const { verdict } = watch;
    if (!refuses || verdict.phase !== 'refused') return null;
    return { code: 'isolation_failed', detail: verdict.detail };
  };

  return {
    get template() {
      return pool.template;
    },
    get trouble() {
      return pool.trouble ?? refusal();
    },
    get hopeful() {
      return pool.trouble !== null && pool.hopeful;
    },
    take: (principal) => (phase() === 'proven' ? pool.take(principal) : undefined),
    async wait(principal, signal) {
      while (!closed && phase() === 'pending') {
        const { trouble } = pool;
        if (trouble && !pool.hopeful) throw troubleForCallers(trouble);
        await watch.changed(signal);
      }
      const refused = refusal();
      if (refused) throw troubleForCallers(refused);
      return pool.wait(principal, signal);
    },
    capacity: () => (phase() === 'proven' ? pool.capacity() : 0),
    counts: pool.counts,
    update(template) {
      pool.update(template);
      watch.wake();
    },
    renew: pool.renew,
    async close() {
      closed = true;
      onClosed(watch.close());
      await pool.close();
    },
  };
}
