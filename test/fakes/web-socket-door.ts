import { WebSocket } from 'ws';
import { AGENT_LINK_PATH, AGENT_SUBPROTOCOL } from '../../gateway/routes/agents.ts';
import type { Door } from './mock-agent.ts';

/** Dials a real gateway for a mock agent: its frames go over a real socket. */
export function webSocketDoor(gatewayUrl: string): Door {
  return {
    acceptLink(agent) {
      const webSocket = new WebSocket(
        gatewayUrl.replace(/^http/, 'ws') + AGENT_LINK_PATH,
        [AGENT_SUBPROTOCOL],
        {
          perMessageDeflate: false,
        },
      );
      webSocket.on('message', (data: Buffer) => agent.send(new Uint8Array(data), () => {}));
      webSocket.on('close', (code, reason) => agent.close(code, reason.toString()));
      webSocket.on('error', () => agent.close(1006, ''));
      return {
        message: (data) => {
          if (webSocket.readyState === webSocket.OPEN) webSocket.send(data, () => {});
        },
        closed: () => webSocket.terminate(),
      };
    },
  };
}
