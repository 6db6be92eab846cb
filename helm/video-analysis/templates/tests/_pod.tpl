{{/*
A pod of `helm test`, which calls the ingress with the image of the ingress. Context: (dict "root" $ "objectName" … "restartPolicy"
… "command" (list …) "serviceAccount" … "env" …), the last two optional.
*/}}
{{- define "video-analysis.testPod" -}}
{{- $root := .root }}
{{- $values := .root.Values }}
{{- $annotations := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" }}
{{- $it := dict "root" .root "name" "test" "objectName" .objectName "annotations" $annotations }}
apiVersion: v1
kind: Pod
metadata:
  {{- include "video-analysis.metadata" $it | nindent 2 }}
spec:
  restartPolicy: {{ .restartPolicy }}
  activeDeadlineSeconds: {{ $values.test.timeoutSeconds }}
  {{- with .serviceAccount }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  containers:
    - name: test
      image: {{ include "video-analysis.image" (dict "root" $root "name" "ingress") }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command:
        {{- toYaml .command | nindent 8 }}
        - --address={{ include "video-analysis.name" (dict "root" $root "name" "ingress") }}:{{ $values.ingress.port }}
        {{- with include "video-analysis.clientOptions" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      env:
        - {name: HOME, value: /tmp}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
      resources:
        requests: {cpu: 100m, memory: 128Mi}
        limits: {memory: 512Mi}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: scratch, mountPath: /tmp}
        {{- with include "video-analysis.clientMounts" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: scratch
      emptyDir: {sizeLimit: 64Mi}
    {{- with include "video-analysis.clientVolumes" $root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}
