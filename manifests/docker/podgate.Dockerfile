# docker build -f manifests/docker/podgate.Dockerfile -t podgate:0.5.0 .
ARG BASE=docker.io/library/node:24-slim

FROM ${BASE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm prune --omit=dev --omit=optional

FROM ${BASE}
WORKDIR /opt/podgate
COPY --from=build /src/package.json ./
COPY --from=build /src/node_modules node_modules
COPY --from=build /src/cli/bin.mjs cli/bin.mjs
COPY --from=build /src/dist dist
COPY --from=build /src/manifests manifests
ENV NODE_ENV=production
USER 65532:65532
ENTRYPOINT ["node", "/opt/podgate/cli/bin.mjs"]
