{{/* Which object owns the number of replicas: ScaledObject, HorizontalPodAutoscaler, or nothing for the Deployment itself.
     Where KEDA's kinds are not known the ScaledObjects are left out, and the Deployments say how many. */}}
{{- define "video-analysis.scaler" -}}
{{- $mode := .Values.autoscaling.mode }}
{{- if eq $mode "hpa" }}HorizontalPodAutoscaler
{{- else if and (has $mode (list "keda" "prometheus")) (or (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") (.Capabilities.APIVersions.Has "keda.sh/v1alpha1/ScaledObject")) }}ScaledObject
{{- end }}
{{- end }}

{{/* Replicas of a Deployment that nothing scales; context: (dict "root" $ "name" …). */}}
{{- define "video-analysis.replicas" -}}
{{- $component := index .root.Values .name }}
{{- if eq .root.Values.autoscaling.mode "none" }}{{ $component.replicas }}{{ else }}{{ max 1 $component.autoscaling.minReplicas }}{{ end }}
{{- end }}
