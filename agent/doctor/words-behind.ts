import { Failure } from '../../shared/errors.ts';
import { reasonOf } from '../backends/kubernetes/kube-client.ts';

const MAX_LINES = 5;
const MAX_LINE_CHARS = 300;

/**
 * What others said of it, where our sentence does not say it already: the scheduler, a registry, admission, a plugin, a
 * proxy. They go to whoever set up the cluster alone.
 */
export function wordsBehind({ cause }: Failure): readonly string[] {
  if (!(cause instanceof Error) || cause instanceof Failure || reasonOf(cause) !== undefined) return [];
  const lines = cause.message.split('\n').filter((line) => line.trim() !== '');
  return lines.slice(0, MAX_LINES).map((line) => line.slice(0, MAX_LINE_CHARS));
}
