import { Agent } from 'node:https';
import { WebSocket } from 'ws';
import { MAX_MESSAGE_BYTES, MAX_MESSAGE_CHUNKS, MAX_MESSAGE_FRAGMENTS } from '../../shared/limits.ts';
import { JOIN_TIMEOUT_MS } from './timings.ts';

export const LINK_PATH = 'v1/agents/link';
export const SUBPROTOCOL = 'podgate.v1';

export type DialOptions = {
  /** The gateway's base URL: http, https, ws or wss. */
  url: URL;
  /** PEM of an authority that the system does not know. */
  ca?: string | undefined;
  /** URL of the http or https proxy before an `https` gateway; undefined: there is none. */
  proxy?: string | undefined;
  /** How long it may be silent before there is a way through it. */
  proxyTimeoutMs?: number;
  /** Goes into the User-Agent. */
  software: string;
};

/** Opens a WebSocket to a gateway: no compression, no Origin, bounded messages. Whoever asks for it listens. */
export function dial({ url, ca, proxy, proxyTimeoutMs, software }: DialOptions): WebSocket {
  return new WebSocket(linkUrl(url), [SUBPROTOCOL], {
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    maxFragments: MAX_MESSAGE_FRAGMENTS,
    maxBufferedChunks: MAX_MESSAGE_CHUNKS,
    skipUTF8Validation: true,
    followRedirects: false,
    headers: { 'User-Agent': software },
    ...(ca === undefined ? {} : { ca }),
    ...(proxy !== undefined && { agent: through(proxy, proxyTimeoutMs) }),
  });
}

/** What asks a proxy for a way does not hear that its dial was given up: it has a time of its own. */
function through(proxy: string, timeout = JOIN_TIMEOUT_MS): Agent {
  return new Agent({ proxyEnv: { HTTPS_PROXY: proxy }, timeout });
}

/** Where the link of a gateway is, below whatever path its base URL has. */
export function linkUrl(base: URL): URL {
  const url = new URL(LINK_PATH, base.href.endsWith('/') ? base.href : `${base.href}/`);
  url.protocol = base.protocol === 'https:' || base.protocol === 'wss:' ? 'wss:' : 'ws:';
  url.search = '';
  url.hash = '';
  return url;
}
