import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * What is held more than now, in bytes, after a collection each time. V8 gives buffers back beside a collection and not in
 * it: poll.
 */
export function startHeldBytes(...kinds: ('heapUsed' | 'arrayBuffers')[]): () => number {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const look = () => {
    collect();
    const usage = process.memoryUsage();
    return kinds.reduce((sum, kind) => sum + usage[kind], 0);
  };
  const before = look();
  return () => look() - before;
}
