import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** Debian's, on every machine that runs the bench; the sandboxes find the same one. */
export const PYTHON = '/usr/bin/python3';

/** Spawns an interpreter for one program, unprotected, and takes its output: what Podgate is measured against. */
export async function spawnPython(code: string): Promise<string> {
  const child = spawn(PYTHON, ['-c', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`the baseline ended with ${status}`);
  return Buffer.concat(chunks).toString();
}
