import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../../shared/errors.ts';
import { isLoopback } from '../../loopback.ts';

const PLAIN_PORT = 2375;
const TLS_PORT = 2376;

/** What the environment says of the engine, under the names that every tool of Docker's reads. */
export type EngineSettings = {
  /** DOCKER_HOST. */
  readonly host: string | undefined;
  /** DOCKER_TLS_VERIFY is set to something. */
  readonly tlsVerify: boolean;
  /** DOCKER_CERT_PATH: the folder of ca.pem, cert.pem and key.pem. */
  readonly certPath: string | undefined;
  /** Where an engine may listen on this machine; the first that is there counts, where no host is named. */
  readonly sockets: readonly string[];
};

/** Where the engine is. `shown` is for messages. */
export type EngineAddress =
  | { readonly kind: 'socket'; readonly shown: string; path(): string }
  | {
      readonly kind: 'tcp';
      readonly shown: string;
      readonly host: string;
      readonly port: number;
      /** Read at every connection: certificates rotate. Undefined: plain, on this machine only. */
      readonly tls: (() => TlsFiles) | undefined;
    };

export type TlsFiles = { readonly ca: string; readonly cert: string; readonly key: string };

/**
 * Understands DOCKER_HOST and its companions. Throws a Failure (`invalid_request`) that says what is allowed: the server's
 * certificate is always checked, and a plain connection never leaves this machine, as whoever reads along owns the engine's.
 */
export function engineAddress(settings: EngineSettings): EngineAddress {
  const { host, sockets } = settings;
  if (host === undefined) return anySocket(sockets);
  const socket = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (socket !== undefined) return { kind: 'socket', shown: host, path: () => socket };
  const url = /^(tcp|https?):\/\//.test(host) && URL.canParse(host) ? new URL(host) : undefined;
  if (url === undefined || url.hostname === '' || !/^\/?$/.test(url.pathname) || url.username !== '')
    throw refusal(`DOCKER_HOST '${host}' is not supported: use unix:///path/of/socket or tcp://host:port.`);
  const hasTls = settings.tlsVerify || settings.certPath !== undefined || url.protocol === 'https:';
  if (!hasTls && !isLoopback(url.hostname))
    throw refusal(
      `DOCKER_HOST '${host}' is a plain connection to another machine, and whoever reads along owns that one. ` +
        'Set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem.',
    );
  const tls = hasTls ? tlsReader(settings.certPath) : undefined;
  const port = Number(url.port) || (hasTls ? TLS_PORT : PLAIN_PORT);
  return { kind: 'tcp', shown: host, host: url.hostname.replace(/^\[|\]$/g, ''), port, tls };
}

function anySocket(sockets: readonly string[]): EngineAddress {
  const path = () => sockets.find((each) => existsSync(each)) ?? (sockets[0] as string);
  return {
    kind: 'socket',
    get shown() {
      return `unix://${path()}`;
    },
    path,
  };
}

function tlsReader(folder: string | undefined): () => TlsFiles {
  if (folder === undefined)
    throw refusal('DOCKER_CERT_PATH is not set: use the folder that holds ca.pem, cert.pem and key.pem.');
  const read = (name: string): string => {
    const file = join(folder, name);
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw refusal(`DOCKER_CERT_PATH: '${file}' cannot be read (${code}).`, cause);
    }
  };
  const files = () => ({ ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') });
  files();
  return files;
}

function refusal(detail: string, cause?: unknown): Failure {
  return new Failure('invalid_request', detail, { cause });
}
