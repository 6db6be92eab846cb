{{/* Names and labels. The context of a template about one component is (dict "root" $ "name" "encoder"). */}}

{{/* A valid name of at most `limit` characters. One that had to be changed ends with a hash, so that different names stay
     different; context: (dict "name" … "limit" …). */}}
{{- define "video-analysis.validName" -}}
{{- $valid := regexReplaceAll "[^a-z0-9-]" (lower .name) "-" | trimAll "-" }}
{{- if not (regexMatch "^[a-z]" $valid) }}{{ $valid = printf "r%s" $valid }}{{ end }}
{{- if or (ne $valid .name) (gt (len $valid) (int .limit)) }}
{{- $valid = printf "%s-%s" (trunc (sub .limit 9 | int) $valid | trimSuffix "-") (sha256sum .name | trunc 8) }}
{{- end }}
{{- $valid }}
{{- end }}

{{/* At most 38 characters: then the names derived from it fit in 63, and Kubernetes does not cut those of pods, which alerts
     and queries select by pattern. An alias of the chart is never omitted, since two may be parts of the release's name. */}}
{{- define "video-analysis.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride }}
{{- $own := printf "%s-%s" .Release.Name $chart }}
{{- if and (eq .Chart.Name "video-analysis") (contains $chart .Release.Name) }}{{ $own = .Release.Name }}{{ end }}
{{- include "video-analysis.validName" (dict "name" (default $own .Values.fullnameOverride) "limit" 38) }}
{{- end }}

{{- define "video-analysis.name" -}}
{{ include "video-analysis.fullname" .root }}-{{ .name }}
{{- end }}

{{/* The Prometheus labels of this release's series, of all services or of `services`; context: (dict "root" $ …). */}}
{{- define "video-analysis.series" -}}
{{- $pods := printf "%s-(%s)-[a-z0-9]{1,10}-[a-z0-9]{5}" (include "video-analysis.fullname" .root) (default "ingress|encoder|decoder" .services) -}}
namespace={{ .root.Release.Namespace | quote }},pod=~{{ $pods | quote }}
{{- end }}

{{/* Later maps win; context: a list of maps, of which some may be empty. */}}
{{- define "video-analysis.merged" -}}
{{- $merged := dict }}
{{- range $map := . }}{{ range $key, $value := default (dict) $map }}{{ $_ := set $merged $key $value }}{{ end }}{{ end }}
{{- toYaml $merged }}
{{- end }}

{{/* Must never change: a Deployment's selector is immutable. */}}
{{- define "video-analysis.selector" -}}
{{- $chart := default .root.Chart.Name .root.Values.nameOverride }}
{{- if gt (len $chart) 63 }}{{ $chart = printf "%s-%s" (trunc 54 $chart) (sha256sum $chart | trunc 8) }}{{ end -}}
app.kubernetes.io/name: {{ $chart | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .name | quote }}
{{- end }}

{{/* Labels of an object. Its own `labels` win over the common ones, and those over the standard ones. */}}
{{- define "video-analysis.labels" -}}
{{- $chart := printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $standard := dict
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/part-of" "video-analysis"
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" $chart
}}
{{- $selector := fromYaml (include "video-analysis.selector" .) }}
{{- include "video-analysis.merged" (list $standard .root.Values.commonLabels $selector .labels) }}
{{- end }}

{{/* The contents of `metadata`. */}}
{{- define "video-analysis.metadata" -}}
name: {{ .objectName | default (include "video-analysis.name" .) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "video-analysis.labels" . | nindent 2 }}
{{- $annotations := fromYaml (include "video-analysis.merged" (list .root.Values.commonAnnotations .annotations)) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "video-analysis.image" -}}
{{- $values := .root.Values }}
{{- $image := (index $values .name).image }}
{{- $version := printf ":%s" (default .root.Chart.AppVersion $values.image.tag) }}
{{- printf "%s/%s%s" (trimSuffix "/" $values.image.registry) $image.repository (empty $image.digest | ternary $version (printf "@%s" $image.digest)) }}
{{- end }}

{{/* Context: (dict "root" $ "name" … "serviceAccount" …) */}}
{{- define "video-analysis.serviceAccountName" -}}
{{- $own := ternary (include "video-analysis.name" .) "default" .serviceAccount.create }}
{{- default $own .serviceAccount.name }}
{{- end }}

{{- define "video-analysis.resumeSecret" -}}
{{ default (include "video-analysis.name" (dict "root" . "name" "resume-keys")) .Values.resumeTokens.existingSecret }}
{{- end }}
