import { openFolderFileStore } from '../../gateway/node/folder-file-store.ts';

/**
 * A process that uploads to the folder in argv[2] until it is killed, four at a time, and prints the id of each file
 * once it is committed. Every byte of a file is the number that is its name.
 */
const store = await openFolderFileStore({
  directory: process.argv[2] as string,
  limits: { maxFileBytes: 10_000_000, maxBytes: 100_000_000, maxFiles: 1_000, ttlMs: 3_600_000 },
});

async function uploadForEver(seed: number): Promise<never> {
  for (let round = seed; ; round += 4) {
    const writer = await store.create('acme/anna', { ceilings: { file_bytes: null, file_count: null } });
    const fill = (round % 255) + 1;
    for (let part = 0; part < 5; part++) await writer.write(new Uint8Array(20_000).fill(fill));
    const { file_id } = await writer.commit({ filename: String(fill) });
    process.stdout.write(`${file_id}\n`);
  }
}

await Promise.all([0, 1, 2, 3].map(uploadForEver));
