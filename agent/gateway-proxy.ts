import type { Environment } from '../shared/config-schema.ts';
import { Failure } from '../shared/errors.ts';
import type { GatewayProxy } from './link/dial.ts';
import { isLoopback } from './loopback.ts';

const PROXIES = /^(https?|all)_proxy$/i;
const HTTPS_PROXY = /^https_proxy$/i;

/**
 * What the environment says of the way to an https gateway on another machine, as curl reads it: small names go first, and
 * a proxy without a scheme is an http one. Throws a Failure where it names no proxy that could be gone through.
 */
export function gatewayProxyOf(gateway: URL, environment: Environment): GatewayProxy | undefined {
  const asked = environment.https_proxy || environment.HTTPS_PROXY;
  if (!asked || !/^(https|wss):$/.test(gateway.protocol) || isLoopback(gateway.hostname)) return undefined;
  const url = asked.includes('://') ? asked : `http://${asked}`;
  if (!URL.canParse(url) || !/^https?:/.test(url)) {
    const message =
      'HTTPS_PROXY is no http or https URL: use that of the proxy before the gateway, or unset it.';
    throw new Failure('invalid_request', message, { errors: [{ path: 'HTTPS_PROXY', message }] });
  }
  return Object.freeze({ url, noProxy: environment.no_proxy || environment.NO_PROXY || '' });
}

/** Names of set variables that other tools take a proxy from, and nothing here does. */
export function passedOverProxies(
  environment: Environment,
  used: GatewayProxy | undefined,
): readonly string[] {
  return Object.keys(environment).filter(
    (name) => PROXIES.test(name) && environment[name] && !(used && HTTPS_PROXY.test(name)),
  );
}
