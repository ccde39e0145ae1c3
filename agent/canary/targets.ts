import { isIP } from 'node:net';
import type { Backend } from '../backends/backend.ts';

/** What a sandbox must not reach, by kind. */
export const TARGET_KINDS = ['dns', 'api', 'metadata', 'node', 'internet'] as const;
export type TargetKind = (typeof TARGET_KINDS)[number];

/** `host:port` by kind. Host is an address, or one of WORDS. A kind without a target is not tried. */
export type CanaryTargets = Readonly<Partial<Record<TargetKind, readonly string[]>>>;

/** What a sandbox without the runner's filter is told of its cluster; where it is told nothing there is nothing to try. */
const WORDS = ['nameserver', 'apiserver', 'node'] as const;
export const MAX_TARGETS = 64;

/** Addresses that each word stands for. */
export type Whereabouts = Readonly<Record<(typeof WORDS)[number], readonly string[]>>;

/** Where clouds serve credentials to whoever asks from inside. */
const METADATA = [
  // AWS, Azure, Google, OpenStack, DigitalOcean; ECS; EKS pod identity; Alibaba; Azure's wire server; AWS over IPv6.
  '169.254.169.254:80',
  '169.254.170.2:80',
  '169.254.170.23:80',
  '100.100.100.200:80',
  '168.63.129.16:80',
  '[fd00:ec2::254]:80',
];
const INTERNET = ['1.1.1.1:443', '8.8.8.8:53', '[2606:4700:4700::1111]:443'];

/** What is tried unless PODGATE_CANARY_TARGETS says otherwise. A local sandbox has a network namespace with nothing in it. */
export const DEFAULT_TARGETS: Readonly<Record<Backend['kind'], CanaryTargets>> = {
  kubernetes: {
    dns: ['nameserver:53'],
    api: ['apiserver:443'],
    metadata: METADATA,
    node: ['node:10250', 'node:22'],
    internet: INTERNET,
  },
  docker: { metadata: METADATA, internet: INTERNET },
  local: {},
};

/** Parses `kind=host:port`, each once or more; `none` alone tries none. A string says what is wrong. */
export function parseTargets(texts: readonly string[]): CanaryTargets | string {
  if (texts.length === 1 && texts[0] === 'none') return {};
  if (texts.length > MAX_TARGETS) return `holds ${texts.length} targets: use ${MAX_TARGETS} at most`;
  const targets: Partial<Record<TargetKind, string[]>> = {};
  for (const text of texts) {
    const [, kind, host = '', port = ''] = /^([a-z]+)=(.+):(\d{1,5})$/.exec(text) ?? [];
    const known = TARGET_KINDS.find((each) => each === kind);
    if (!known || !isHost(host) || Number(port) < 1 || Number(port) > 65_535)
      return `holds '${text}': use ${TARGET_KINDS.join('|')}=ADDRESS:PORT, such as metadata=169.254.169.254:80`;
    targets[known] = [...(targets[known] ?? []), `${host}:${port}`];
  }
  return targets;
}

/** Targets as addresses alone, for a sandbox that is not told what words stand for. A kind of which nothing is left is none. */
export function locateTargets(targets: CanaryTargets, whereabouts: Whereabouts): CanaryTargets {
  const located = TARGET_KINDS.map((kind) => {
    const texts = targets[kind] ?? [];
    return [kind, texts.flatMap((text) => locate(text, whereabouts))] as const;
  });
  return Object.fromEntries(located.filter(([, texts]) => texts.length > 0));
}

function locate(text: string, whereabouts: Whereabouts): readonly string[] {
  const word = WORDS.find((each) => text.startsWith(`${each}:`));
  if (!word) return [text];
  const port = text.slice(word.length);
  return whereabouts[word].map((address) =>
    isIP(address) === 6 ? `[${address}]${port}` : `${address}${port}`,
  );
}

/** A name would have to be resolved first, and whether it can be is what is to be found out. */
function isHost(host: string): boolean {
  const address = /^\[(.+)\]$/.exec(host)?.[1];
  return (
    WORDS.some((word) => word === host) || (address === undefined ? isIP(host) === 4 : isIP(address) === 6)
  );
}
