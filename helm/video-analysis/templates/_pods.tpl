{{/* Parts of pod specs. */}}

{{/* Resource requests and limits of a component, including its GPU. */}}
{{- define "video-analysis.resources" -}}
{{- $component := index .root.Values .name }}
{{- $resources := deepCopy $component.resources }}
{{- if and (eq .name "encoder") $component.gpu.resourceName }}
{{- $gpu := dict $component.gpu.resourceName $component.gpu.count }}
{{- $resources = merge (dict "limits" $gpu) $resources }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* The init container that downloads the model or checks its digest; empty without a digest. */}}
{{- define "video-analysis.modelContainer" -}}
{{- $model := .Values.model }}
{{- if and $model.digest (ne $model.source "synthetic") -}}
- name: model
  image: {{ include "video-analysis.image" (dict "root" . "name" "encoder") }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - -m
    - services.encoder.fetch
    - {{ include "video-analysis.model" . }}
    {{- if eq $model.source "download" }}
    - --revision={{ $model.revision }}
    {{- end }}
    - --digest={{ $model.digest }}
  env:
    - {name: HOME, value: /tmp}
    {{- if eq $model.source "download" }}
    - {name: HF_HOME, value: /model}
    {{- with $model.download.endpoint }}
    - {name: HF_ENDPOINT, value: {{ . | quote }}}
    {{- end }}
    {{- with $model.download.existingSecret }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef: {name: {{ . }}, key: {{ $model.download.secretKey }}}
    {{- end }}
    {{- end }}
    {{- with .Values.encoder.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.encoder.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .Values.encoder.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    - {name: scratch, mountPath: /tmp}
    {{- if eq $model.source "download" }}
    - {name: model, mountPath: /model}
    {{- else if eq $model.source "claim" }}
    - {name: model, mountPath: /model, readOnly: true}
    {{- end }}
{{- end }}
{{- end }}

{{- define "video-analysis.modelVolume" -}}
{{- $model := .Values.model }}
{{- if eq $model.source "claim" -}}
- name: model
  persistentVolumeClaim: {claimName: {{ $model.claim.name }}, readOnly: true}
{{- else if and (eq $model.source "download") $model.download.existingClaim -}}
- name: model
  persistentVolumeClaim: {claimName: {{ $model.download.existingClaim }}}
{{- else if eq $model.source "download" -}}
- name: model
  emptyDir: {sizeLimit: {{ $model.download.sizeLimit }}}
{{- end }}
{{- end }}

{{- define "video-analysis.banksClaim" -}}
{{ default (include "video-analysis.name" (dict "root" . "name" "banks")) .Values.textBanks.volume.existingClaim }}
{{- end }}
