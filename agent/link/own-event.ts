import type { LinkEvent } from './link-state.ts';
import type { GatewayMessage } from './link-streams.ts';

/** The event of a message that concerns the link itself; undefined for work. */
export function ownEvent(
  message: GatewayMessage,
  isWanted: (serverId: string) => boolean,
): LinkEvent | undefined {
  switch (message.name) {
    case 'CHALLENGE':
      return { type: 'challenge', body: message.body, wanted: isWanted(message.body.server_id) };
    case 'WELCOME':
      return { type: 'welcome', body: message.body };
    case 'AUTH_REFRESH':
      return { type: 'refresh', body: message.body };
    case 'HEARTBEAT':
      return { type: 'heartbeat', body: message.body };
    case 'GOAWAY':
      return { type: 'goaway', body: message.body };
    default:
      return undefined;
  }
}
