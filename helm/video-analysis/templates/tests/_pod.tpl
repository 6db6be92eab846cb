{{/*
A pod of `helm test`, which calls the ingress with the image of the ingress. It is deleted when it succeeds; one that failed
stays for its log. Its identity is that of the ingress, which reads what a test uploads. Context: (dict "root" $ "objectName" …
"command" (list …) "env" …), the last one optional.
*/}}
{{- define "video-analysis.testPod" -}}
{{- $root := .root }}
{{- $values := .root.Values }}
{{- $it := dict "root" $root "name" "test" "image" "ingress" "options" $values.test "objectName" .objectName }}
{{- $pod := fromYaml (include "video-analysis.podMetadata" $it) }}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" }}
{{- $annotations := fromYaml (include "video-analysis.merged" (list $pod.annotations $hook)) }}
apiVersion: v1
kind: Pod
metadata:
  {{- include "video-analysis.metadata" (merge (dict "labels" $pod.labels "annotations" $annotations) $it) | nindent 2 }}
spec:
  {{- include "video-analysis.podSpec" (merge (dict "spec" (include "video-analysis.testPodSpec" .)) $it) | nindent 2 }}
{{- end }}
{{- define "video-analysis.testPodSpec" -}}
{{- $root := .root }}
{{- $values := .root.Values }}
{{- $account := include "video-analysis.serviceAccountName" (dict "root" $root "name" "ingress" "serviceAccount" $values.ingress.serviceAccount) -}}
# Not restarted: it waits itself for what is not ready yet.
restartPolicy: Never
activeDeadlineSeconds: {{ $values.test.timeoutSeconds }}
serviceAccountName: {{ $account | quote }}
automountServiceAccountToken: false
containers:
  - name: test
    command:
      {{- toYaml .command | nindent 6 }}
      - --address={{ include "video-analysis.name" (dict "root" $root "name" "ingress") }}:{{ $values.ingress.port }}
      {{- include "video-analysis.clientOptions" $root | trim | nindent 6 }}
    env:
      - {name: HOME, value: /tmp}
      {{- with .env }}
      {{- . | nindent 6 }}
      {{- end }}
    resources:
      {{- toYaml $values.test.resources | nindent 6 }}
    volumeMounts:
      - {name: scratch, mountPath: /tmp}
      {{- include "video-analysis.clientMounts" $root | trim | nindent 6 }}
volumes:
  - name: scratch
    emptyDir: {sizeLimit: 64Mi}
  {{- include "video-analysis.clientVolumes" $root | trim | nindent 2 }}
{{- end }}
