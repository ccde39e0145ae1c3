import { BlockList, isIP } from 'node:net';
import type { Environment } from '../shared/config-schema.ts';
import { Failure } from '../shared/errors.ts';
import { isLoopback } from './loopback.ts';

const PROXIES = /^(https?|all)_proxy$/i;
const HTTPS_PROXY = /^https_proxy$/i;

/** The URL of the proxy before a server; undefined: it is dialed directly. */
export type ProxyTo = (server: URL) => string | undefined;

/**
 * What the environment says of the way to https servers on other machines, as curl and kubectl read it: small names go
 * first, and a proxy without a scheme is an http one.
 */
export function readProxies(environment: Environment): ProxyTo {
  const asked = environment.https_proxy || environment.HTTPS_PROXY;
  const leftAside = (environment.no_proxy || environment.NO_PROXY || '').toLowerCase().split(/[\s,]+/);
  return (server) => {
    if (!asked || !/^(https|wss):$/.test(server.protocol) || isLoopback(server.hostname)) return undefined;
    if (leftAside.some((entry) => isNamed(server, entry))) return undefined;
    return asked.includes('://') ? asked : `http://${asked}`;
  };
}

/** Throws a Failure where the environment names none that a gateway could be dialed through. */
export function gatewayProxy(gateway: URL, proxyTo: ProxyTo): string | undefined {
  const url = proxyTo(gateway);
  if (url === undefined || (URL.canParse(url) && /^https?:/.test(url))) return url;
  const message =
    'HTTPS_PROXY is no http or https URL: use that of the proxy before the gateway, or unset it.';
  throw new Failure('invalid_request', message, { errors: [{ path: 'HTTPS_PROXY', message }] });
}

/** Names of set variables that other tools take a proxy from, and nothing here does. */
export function passedOverProxies(environment: Environment, isHttpsHeeded: boolean): readonly string[] {
  return Object.keys(environment).filter(
    (name) => PROXIES.test(name) && environment[name] && !(isHttpsHeeded && HTTPS_PROXY.test(name)),
  );
}

/** Whether an entry of `NO_PROXY` is about a server: a name with all below it, an address, a range of them, `*`. */
function isNamed({ hostname, port }: URL, entry: string): boolean {
  if (entry === '*') return true;
  const host = hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) && entry.includes('/')) return isWithin(host, entry);
  const [, name = '', only] = isIP(entry) ? [entry, entry] : (/^\[?(.*?)\]?(?::(\d+))?$/.exec(entry) ?? []);
  if (only !== undefined && only !== (port || '443')) return false;
  const bare = name.replace(/^\*?\./, '');
  return bare !== '' && (host === bare || (!isIP(host) && host.endsWith(`.${bare}`)));
}

function isWithin(host: string, range: string): boolean {
  const [address = '', bits] = range.split('/');
  const family = isIP(address);
  const prefix = Number(bits);
  if (!family || !bits || !(prefix >= 0 && prefix <= (family === 6 ? 128 : 32))) return false;
  const list = new BlockList();
  list.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4');
  return list.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
}
