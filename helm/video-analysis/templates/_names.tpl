{{/* Names and labels. The context of a template about one component is (dict "root" $ "name" "encoder"). */}}

{{/* At most 40 characters, so that the longest name derived from it, including that of KEDA's HPA, fits in 63. */}}
{{- define "video-analysis.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride }}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) }}
{{- default $own .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "video-analysis.name" -}}
{{ include "video-analysis.fullname" .root }}-{{ .name }}
{{- end }}

{{/* Must never change: a Deployment's selector is immutable. */}}
{{- define "video-analysis.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "video-analysis.labels" -}}
{{ include "video-analysis.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: video-analysis
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Without the chart's version, so that a new chart version alone replaces no pods. */}}
{{- define "video-analysis.podLabels" -}}
{{ include "video-analysis.selector" . }}
app.kubernetes.io/part-of: video-analysis
{{- with merge (dict) (default (dict) .podLabels) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The contents of `metadata`. */}}
{{- define "video-analysis.metadata" -}}
name: {{ .objectName | default (include "video-analysis.name" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "video-analysis.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
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
