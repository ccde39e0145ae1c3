import type { Template } from '../../shared/template.ts';

/**
 * What a sandbox's control group may hold: the program's memory, what runner and preloaded modules take, and every tmpfs.
 * Memory-backed file systems count against the limit: without room for them a full disk is an OOM kill.
 */
export function sandboxMemoryMb(
  { memory_mb, workspace_mb, tmp_mb }: Template['resources'],
  { shm_mb, base_memory_mb }: { shm_mb: number; base_memory_mb: number },
): number {
  return memory_mb + workspace_mb + tmp_mb + shm_mb + base_memory_mb;
}
