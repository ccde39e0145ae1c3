import { WebSocket } from 'ws';
import { MAX_MESSAGE_BYTES } from '../../shared/limits.ts';

export const LINK_PATH = 'v1/agents/link';
export const SUBPROTOCOL = 'podgate.v1';

export type DialOptions = {
  /** The gateway's base URL: http, https, ws or wss. */
  url: URL;
  /** PEM of an authority that the system does not know. */
  ca?: string | undefined;
  /** Goes into the User-Agent. */
  software: string;
};

/** Opens a WebSocket to a gateway: no compression, no Origin, bounded messages. Whoever asks for it listens. */
export function dial({ url, ca, software }: DialOptions): WebSocket {
  return new WebSocket(linkUrl(url), [SUBPROTOCOL], {
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    skipUTF8Validation: true,
    followRedirects: false,
    headers: { 'User-Agent': software },
    ...(ca === undefined ? {} : { ca }),
  });
}

/** Where the link of a gateway is, below whatever path its base URL has. */
export function linkUrl(base: URL): URL {
  const url = new URL(LINK_PATH, base.href.endsWith('/') ? base.href : `${base.href}/`);
  url.protocol = base.protocol === 'https:' || base.protocol === 'wss:' ? 'wss:' : 'ws:';
  url.search = '';
  url.hash = '';
  return url;
}
