import { dirOption } from './config.ts';
import { type Io, write } from './io.ts';
import type { Issued } from './issue-keys.ts';

/** What was issued, alone on standard output; on standard error how long it is good and how it is revoked. */
export async function showIssued({ text, jti, expiresAtMs }: Issued, dir: string, io: Io): Promise<void> {
  await write(io.stdout, `${text}\n`);
  const until = new Date(expiresAtMs).toISOString();
  await write(
    io.stderr,
    `Good until ${until}. Revoke it with: podgate keys revoke ${jti}${dirOption(dir)}\n`,
  );
}
