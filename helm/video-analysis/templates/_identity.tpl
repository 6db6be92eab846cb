{{/* TLS and authentication: Secrets, settings, volumes, and the options of the chart's own clients. */}}

{{/* The Secret of a certificate; context: (dict "root" $ "name" …) with the name of a service or "client". */}}
{{- define "video-analysis.tlsSecret" -}}
{{ default (printf "%s-tls" (include "video-analysis.name" .)) (index .root.Values.tls.existingSecrets .name) }}
{{- end }}

{{- define "video-analysis.settings.tls" -}}
{{- $tls := .root.Values.tls }}
{{- if $tls.enabled }}
tls_cert: /tls/own/tls.crt
tls_key: /tls/own/tls.key
metrics_tls: {{ $tls.metrics }}
{{- if ne .name "ingress" }}
tls_client_ca: /tls/own/ca.crt
{{- else }}
{{- if $tls.callerCA.existingSecret }}
tls_client_ca: {{ printf "/tls/callers/%s" $tls.callerCA.secretKey | quote }}
{{- end }}
upstream_tls_ca: /tls/own/ca.crt
upstream_tls_cert: /tls/own/tls.crt
upstream_tls_key: /tls/own/tls.key
encoder_tls_name: {{ include "video-analysis.name" (dict "root" .root "name" "encoder") }}
decoder_tls_name: {{ include "video-analysis.name" (dict "root" .root "name" "decoder") }}
{{- end }}
{{- end }}
{{- end }}

{{- define "video-analysis.settings.authentication" -}}
{{- $authentication := .Values.authentication }}
{{- if $authentication.tokens.existingSecret }}
tokens_file: {{ printf "/authentication/tokens/%s" $authentication.tokens.secretKey | quote }}
{{- end }}
{{- with $authentication.jwt }}
{{- if .keysUrl }}
jwt_keys: {{ .keysUrl | quote }}
jwt_issuer: {{ .issuer | quote }}
jwt_audience: {{ .audience | quote }}
{{- end }}
{{- end }}
{{- if $authentication.policy }}
policy_file: /authentication/policy/policy.yaml
{{- end }}
{{- end }}

{{/* Mounts and volumes of a service. Directories, not single files, so that the kubelet updates them. */}}
{{- define "video-analysis.identityMounts" -}}
{{- $values := .root.Values }}
{{- if $values.tls.enabled }}
- {name: tls, mountPath: /tls/own, readOnly: true}
{{- end }}
{{- if eq .name "ingress" }}
{{- if and $values.tls.enabled $values.tls.callerCA.existingSecret }}
- {name: caller-ca, mountPath: /tls/callers, readOnly: true}
{{- end }}
{{- if $values.authentication.tokens.existingSecret }}
- {name: tokens, mountPath: /authentication/tokens, readOnly: true}
{{- end }}
{{- if $values.authentication.policy }}
- {name: policy, mountPath: /authentication/policy, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "video-analysis.identityVolumes" -}}
{{- $values := .root.Values }}
{{- if $values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "video-analysis.tlsSecret" . | quote }}, defaultMode: 0440}
{{- end }}
{{- if eq .name "ingress" }}
{{- with $values.tls.callerCA.existingSecret }}
{{- if $values.tls.enabled }}
- name: caller-ca
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- with $values.authentication.tokens.existingSecret }}
- name: tokens
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- if $values.authentication.policy }}
- name: policy
  configMap: {name: {{ include "video-analysis.name" (dict "root" .root "name" "policy") | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Options, mounts and volumes of a client of the chart's own: a text bank Job or the test. */}}
{{- define "video-analysis.clientOptions" -}}
{{- if .Values.tls.enabled }}
- --ca=/tls/own/ca.crt
- --cert=/tls/own/tls.crt
- --key=/tls/own/tls.key
{{- end }}
{{- with .Values.authentication.client }}
{{- if .existingSecret }}
- {{ printf "--token-file=/authentication/client/%s" .secretKey | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "video-analysis.clientMounts" -}}
{{- if .Values.tls.enabled }}
- {name: tls, mountPath: /tls/own, readOnly: true}
{{- end }}
{{- if .Values.authentication.client.existingSecret }}
- {name: token, mountPath: /authentication/client, readOnly: true}
{{- end }}
{{- end }}

{{- define "video-analysis.clientVolumes" -}}
{{- if .Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "video-analysis.tlsSecret" (dict "root" . "name" "client") | quote }}, defaultMode: 0440}
{{- end }}
{{- with .Values.authentication.client.existingSecret }}
- name: token
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}
