import { startBackendStack } from '../fakes/backend-stack.ts';
import { stackTrouble } from '../system/suite.ts';
import { sessionsContract } from './sessions.ts';

sessionsContract('the local backend', {
  trouble: stackTrouble,
  open: (templates) =>
    startBackendStack({
      cluster: 'local',
      templates,
      environment: { EXECUTOR_BACKEND: 'local', PODGATE_CLUSTER: 'local' },
    }),
  many: 12,
});
