import { createCompactEncrypter } from '../../gateway/node/encrypt-compact.ts';
import { generateKeyring, type IdParts, importKeyring, openId, sealId } from '../../shared/ids.ts';
import { digestPrincipal } from '../../shared/principal.ts';
import { ms, type Row } from '../row.ts';
import { interleaved, p50 } from '../stats.ts';

const ROUNDS = 2_000;

/** An id that names an execution to its owner alone: sealed once per execution, opened where it is asked about. */
export async function ids(): Promise<Row[]> {
  const keyring = await importKeyring(generateKeyring('bench'));
  const parts: IdParts = {
    kind: 'x',
    tenant: 'acme',
    principalDigest: await digestPrincipal('acme/alice'),
    cluster: 'lab',
    instance: 'instance-1',
  };
  const encrypt = createCompactEncrypter();
  const id = await sealId(keyring, parts, encrypt);
  const samples = await interleaved(
    ROUNDS,
    () => sealId(keyring, parts, encrypt),
    () => openId(keyring, 'x', id),
    1,
  );
  const sealed = p50(samples.figure);
  const opened = p50(samples.baseline);
  const rest = { baseline: '–' };
  return [
    { name: 'sealing an id', figure: `${ms(sealed)} p50`, value: sealed, ...rest },
    { name: 'opening an id', figure: `${ms(opened)} p50`, value: opened, ...rest },
  ];
}
