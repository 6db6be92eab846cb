{{/* Settings of the services that are derived from values, as fields of services/<name>/settings.py. */}}

{{- define "video-analysis.settings.common" -}}
{{- $component := index .root.Values .name }}
port: {{ $component.port }}
health_port: {{ .root.Values.ports.health }}
metrics_port: {{ .root.Values.ports.metrics }}
drain_delay_seconds: {{ $component.shutdown.drainDelaySeconds }}
grace_seconds: {{ $component.shutdown.graceSeconds }}
{{- include "video-analysis.settings.tls" . }}
{{- end }}

{{- define "video-analysis.settings.ingress" -}}
{{- $values := .root.Values }}
scaling_port: {{ $values.ports.scaling }}
encoders: {{ include "video-analysis.location" (dict "root" .root "name" "encoder") | quote }}
decoders: {{ include "video-analysis.location" (dict "root" .root "name" "decoder") | quote }}
image_size: {{ $values.model.imageSize }}
allowed_buckets: {{ $values.allowedBuckets | toJson }}
{{- include "video-analysis.settings.authentication" .root }}
s3_endpoint_url: {{ $values.s3.endpointUrl | quote }}
s3_region: {{ $values.s3.region | quote }}
{{- end }}

{{- define "video-analysis.settings.encoder" -}}
{{- $model := .root.Values.model }}
{{- if eq $model.source "synthetic" }}
engine: synthetic
synthetic_image_size: {{ $model.imageSize }}
{{- else }}
engine: siglip
model: {{ include "video-analysis.model" .root | quote }}
{{- if eq $model.source "download" }}
revision: {{ $model.revision | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "video-analysis.settings.decoder" -}}
{{- $values := .root.Values }}
{{- if ne $values.textBanks.location "none" }}
banks: {{ eq $values.textBanks.location "volume" | ternary "/banks" $values.textBanks.location | quote }}
expected_banks: {{ keys $values.textBanks.build | sortAlpha | toJson }}
{{- end }}
s3_endpoint_url: {{ $values.s3.endpointUrl | quote }}
s3_region: {{ $values.s3.region | quote }}
{{- end }}

{{/* The location of the replicas of `name`, for the ingress's discovery. */}}
{{- define "video-analysis.location" -}}
{{- $service := include "video-analysis.name" . }}
{{- if eq .root.Values.discovery "dns" -}}
dns://{{ $service }}.{{ .root.Release.Namespace }}.svc:{{ (index .root.Values .name).port }}
{{- else -}}
kubernetes:///{{ $service }}:grpc
{{- end }}
{{- end }}

{{/* The encoder's setting `model`. */}}
{{- define "video-analysis.model" -}}
{{- $model := .Values.model }}
{{- if eq $model.source "download" }}{{ $model.id }}
{{- else if eq $model.source "claim" }}{{ printf "/model/%s" $model.directory | trimSuffix "/" }}
{{- else }}{{ $model.directory }}
{{- end }}
{{- end }}

{{/* Environment variables of a service: its settings, and those of its libraries. */}}
{{- define "video-analysis.env" -}}
{{- $values := .root.Values }}
{{- $component := index $values .name }}
{{- $chosen := fromYaml (include "video-analysis.settings.common" .) }}
{{- $chosen = merge $chosen (fromYaml (include (printf "video-analysis.settings.%s" .name) .)) $component.settings }}
{{- range $field, $value := $chosen }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ printf "%s_%s" $.name $field | upper }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- if eq .name "ingress" }}
- name: INGRESS_RESUME_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ include "video-analysis.resumeSecret" .root | quote }}
      key: {{ $values.resumeTokens.secretKey | quote }}
{{- end }}
{{- if eq .name "encoder" }}
{{- include "video-analysis.modelEnv" .root }}
{{- else }}
{{- include "video-analysis.s3Env" .root }}
{{- end }}
{{- with $values.tracing.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_TRACES_SAMPLER, value: parentbased_traceidratio}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ $values.tracing.ratio | toString | quote }}}
{{- end }}
# The root file system is read-only.
- {name: HOME, value: /tmp}
{{- end }}

{{- define "video-analysis.s3Env" -}}
{{- with .Values.s3.existingSecret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.s3.existingSecret | quote }}, key: {{ $key }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Only the init container may connect to the hub. */}}
{{- define "video-analysis.modelEnv" -}}
{{- if ne .Values.model.source "synthetic" }}
- {name: HF_HUB_OFFLINE, value: "1"}
- {name: HF_HOME, value: {{ eq .Values.model.source "download" | ternary "/model" "/tmp/huggingface" }}}
{{- end }}
{{- end }}
