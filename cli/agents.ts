import { parseArgs } from 'node:util';
import { podgateFolder } from './config.ts';
import { type Io, UsageError, write } from './io.ts';
import { issueAgentToken, renewalOf } from './issue-keys.ts';
import {
  parseCount,
  parseDuration,
  parseNames,
  parseSubject,
  readCredentialFile,
  readPublicKey,
} from './key-options.ts';
import { parseCommand } from './parse-command.ts';
import { showIssued } from './show-issued.ts';

const HELP = `Usage: podgate agents token --cluster NAME[,NAME...] [OPTIONS]
       podgate agents token --renew FILE [OPTIONS]

Makes what an agent joins with and prints it alone: a token for the named clusters and the private key that it is
bound to, as one line that starts with podgate_agent_. It is a secret; hand it to the agent (PODGATE_AGENT_TOKEN, or a
file and PODGATE_AGENT_TOKEN_FILE). The private key never goes to the gateway, so a stolen token alone does not join.

  --cluster NAME       a cluster that the agent may serve; repeat it, or use commas; * at the end stands for any ending
  --sub NAME           a name for the agent, to revoke it by (default: a random one)
  --expires SPAN       how long the token lives, like 12h or 90d (default 90d)
  --max-instances N    agents that may be linked at once with this token (default: any number)
  --renew FILE         the same credential again, good for longer: an agent that runs with it takes it over from its
                       PODGATE_AGENT_TOKEN_FILE, where one with another key is refused until the agent is restarted
  --public-key FILE    a JWK with the public half of a key that the agent made; prints only the token
  --dir FOLDER         the folder of keys (default .podgate)

Example:
  podgate agents token --cluster lab > agent-credential
  podgate agents token --renew agent-credential > newer && mv newer agent-credential
`;

/** `podgate agents …`. Resolves to the exit status; throws UsageError where the user has to change something. */
export async function runAgentsCommand(
  args: string[],
  io: Io,
  now: () => number = Date.now,
): Promise<number> {
  const [action, ...rest] = args;
  if (action === undefined || action === '--help' || action === '-h' || action === 'help') {
    await write(action === undefined ? io.stderr : io.stdout, HELP);
    return action === undefined ? 2 : 0;
  }
  if (action !== 'token')
    throw new UsageError(`there is no 'agents ${action}'. 'podgate agents --help' says what there is.`);
  const { values } = parseCommand('agents', () =>
    parseArgs({
      args: rest,
      options: {
        help: { type: 'boolean', short: 'h' },
        dir: { type: 'string' },
        cluster: { type: 'string', multiple: true },
        sub: { type: 'string' },
        expires: { type: 'string' },
        'max-instances': { type: 'string' },
        'public-key': { type: 'string' },
        renew: { type: 'string' },
      },
    }),
  );
  if (values.help) {
    await write(io.stdout, HELP);
    return 0;
  }
  const { cluster, renew, sub, expires, 'max-instances': maxInstances, 'public-key': publicKey } = values;
  if (renew !== undefined && (sub ?? publicKey) !== undefined)
    throw new UsageError('--renew keeps the name and the key: leave out --sub and --public-key');
  const renewed = renew === undefined ? undefined : renewalOf(await readCredentialFile(renew, io.signal));
  if (cluster === undefined && renewed === undefined)
    throw new UsageError('name the clusters that the agent may serve with --cluster');
  const dir = values.dir ?? podgateFolder();
  const issued = await issueAgentToken(
    dir,
    {
      ...renewed,
      clusters: cluster === undefined ? (renewed?.clusters ?? []) : parseNames('--cluster', cluster),
      ...(sub !== undefined && { sub: parseSubject(sub) }),
      ...(expires !== undefined && { lifetimeSeconds: parseDuration(expires) }),
      ...(maxInstances !== undefined && { maxInstances: parseCount('--max-instances', maxInstances) }),
      ...(publicKey !== undefined && { publicKey: await readPublicKey(publicKey, io.signal) }),
    },
    now(),
  );
  await showIssued(issued, dir, io);
  return 0;
}
