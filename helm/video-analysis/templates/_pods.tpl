{{/*
Pods. Each kind (service, text bank Job, test) writes the parts that are its own, as a pod spec, and `video-analysis.podSpec`
adds what every pod and container has: the options of the user, the image, security contexts, the request for disk.
The context is (dict "root" $ "name" … "image" … "options" …): the component, the one whose image it runs, and its options.
*/}}

{{/* The options of a pod: those of `pods`, for all, and its own. Of maps and lists both apply. */}}
{{- define "video-analysis.podOptions" -}}
{{- $values := .root.Values }}
{{- $all := merge (dict "podSecurityContext" $values.podSecurityContext "securityContext" $values.securityContext) $values.pods }}
{{- $own := default (dict) .options }}
{{- $options := dict }}
{{- range $key := list "affinity" "dnsConfig" "nodeSelector" "podAnnotations" "podLabels" "podSecurityContext" "securityContext" }}
{{- $_ := set $options $key (fromYaml (include "video-analysis.merged" (list (get $all $key) (get $own $key)))) }}
{{- end }}
{{- $identities := dict
  "envFrom" (list) "tolerations" (list)
  "extraEnv" (list "name") "extraVolumes" (list "name") "initContainers" (list "name") "resourceClaims" (list "name")
  "extraVolumeMounts" (list "mountPath") "hostAliases" (list "ip")
  "topologySpreadConstraints" (list "topologyKey" "whenUnsatisfiable")
}}
{{- range $key, $identity := $identities }}
{{- $items := concat (default (list) (get $all $key)) (default (list) (get $own $key)) }}
{{- $_ := set $options $key (fromYamlArray (include "video-analysis.unique" (dict "items" $items "identity" $identity))) }}
{{- end }}
{{- range $key := list "dnsPolicy" "priorityClassName" "runtimeClassName" "schedulerName" }}
{{- $_ := set $options $key (default (get $all $key) (get $own $key)) }}
{{- end }}
{{- toYaml $options }}
{{- end }}

{{/* The items of a list without those that a later one replaces, which has the same values at the keys `identity`. */}}
{{- define "video-analysis.unique" -}}
{{- $identity := .identity }}
{{- $seen := dict }}
{{- $kept := list }}
{{- range $item := reverse .items }}
{{- $values := list }}
{{- range $identity }}{{ $values = append $values (get $item .) }}{{ end }}
{{- $id := empty $identity | ternary $item $values | toJson }}
{{- if not (hasKey $seen $id) }}{{ $kept = prepend $kept $item }}{{ end }}
{{- $_ := set $seen $id true }}
{{- end }}
{{- toYaml $kept }}
{{- end }}

{{/* Labels and annotations of a pod, without the chart's version, so that a new chart version alone replaces no pods. */}}
{{- define "video-analysis.podMetadata" -}}
{{- $options := fromYaml (include "video-analysis.podOptions" .) }}
{{- $partOf := dict "app.kubernetes.io/part-of" "video-analysis" }}
{{- $selector := fromYaml (include "video-analysis.selector" .) -}}
labels:
  {{- include "video-analysis.merged" (list $partOf .root.Values.commonLabels $options.podLabels $selector) | nindent 2 }}
{{- $annotations := fromYaml (include "video-analysis.merged" (list .root.Values.commonAnnotations $options.podAnnotations)) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The complete spec of a pod; `spec` in the context has the parts that are its own. */}}
{{- define "video-analysis.podSpec" -}}
{{- $root := .root }}
{{- $options := fromYaml (include "video-analysis.podOptions" .) }}
{{- $spec := fromYaml .spec }}
{{- range $container := concat (default (list) $spec.initContainers) $spec.containers }}
{{- $_ := set $container "image" (include "video-analysis.image" (dict "root" $root "name" $.image)) }}
{{- $_ := set $container "imagePullPolicy" $root.Values.image.pullPolicy }}
{{- $_ := set $container "securityContext" $options.securityContext }}
{{- $environment := dict "items" (concat $container.env $options.extraEnv) "identity" (list "name") }}
{{- $env := fromYamlArray (include "video-analysis.unique" $environment) }}
{{- range $env }}
{{- if not (or (hasKey . "valueFrom") (kindIs "string" .value)) }}{{ $_ := set . "value" (toJson .value) }}{{ end }}
{{- end }}
{{- $_ := set $container "env" $env }}
{{- with $options.envFrom }}{{ $_ := set $container "envFrom" . }}{{ end }}
{{- $mounts := dict "items" (concat $container.volumeMounts $options.extraVolumeMounts) "identity" (list "mountPath") }}
{{- $_ := set $container "volumeMounts" (fromYamlArray (include "video-analysis.unique" $mounts)) }}
{{- end }}

{{- $_ := set $spec "initContainers" (concat $options.initContainers (default (list) $spec.initContainers)) }}
{{- $volumes := dict "items" (concat $spec.volumes $options.extraVolumes) "identity" (list "name") }}
{{- $_ := set $spec "volumes" (fromYamlArray (include "video-analysis.unique" $volumes)) }}
{{- include "video-analysis.requestDisk" $spec }}

{{- $_ := set $spec "enableServiceLinks" false }}
{{- $_ := set $spec "securityContext" $options.podSecurityContext }}
{{- $secrets := list }}
{{- range $root.Values.image.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end }}
{{- $_ := set $spec "imagePullSecrets" $secrets }}
{{- range $key := list "affinity" "dnsConfig" "dnsPolicy" "hostAliases" "nodeSelector" "priorityClassName" "resourceClaims" "runtimeClassName" "schedulerName" "tolerations" }}
{{- $_ := set $spec $key (get $options $key) }}
{{- end }}
{{- $own := dict "matchLabels" (fromYaml (include "video-analysis.selector" .)) }}
{{- range $options.topologySpreadConstraints }}
{{- if not (hasKey . "labelSelector") }}{{ $_ := set . "labelSelector" $own }}{{ end }}
{{- end }}
{{- $_ := set $spec "topologySpreadConstraints" $options.topologySpreadConstraints }}
{{- range $key, $value := $spec }}
{{- if and (empty $value) (not (kindIs "bool" $value)) }}{{ $_ := unset $spec $key }}{{ end }}
{{- end }}
{{- toYaml $spec }}
{{- end }}

{{/* Adds to a spec the request for the disk of its volumes, unless its resources name one: a node that is short of disk evicts
     pods that use more than they requested. */}}
{{- define "video-analysis.requestDisk" -}}
{{- $bytes := 0 }}
{{- range .volumes }}
{{- with .emptyDir }}
{{- if and .sizeLimit (ne (default "" .medium) "Memory") }}{{ $bytes = add $bytes (include "video-analysis.bytes" .sizeLimit) }}{{ end }}
{{- end }}
{{- end }}
{{- $container := first .containers }}
{{- $resources := default (dict) $container.resources }}
{{- $requests := default (dict) $resources.requests }}
{{- if and $bytes (not (hasKey $requests "ephemeral-storage")) (not (hasKey (default (dict) $resources.limits) "ephemeral-storage")) }}
{{- $_ := set $requests "ephemeral-storage" (toString $bytes) }}
{{- $_ := set $resources "requests" $requests }}
{{- $_ := set $container "resources" $resources }}
{{- end }}
{{- end }}

{{/* A quantity as a string; templates print large numbers as 1e+09. */}}
{{- define "video-analysis.quantity" -}}
{{ toJson . | trimAll "\"" | quote }}
{{- end }}

{{/* A quantity as a number of bytes. */}}
{{- define "video-analysis.bytes" -}}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- $quantity := toJson . | trimAll "\"" }}
{{- $number := regexFind "^[0-9.]+" $quantity }}
{{- mulf (float64 $number) (get $factors (trimPrefix $number $quantity)) | int64 }}
{{- end }}

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
  command:
    - python
    - -m
    - services.encoder.fetch
    - {{ include "video-analysis.model" . | quote }}
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
        secretKeyRef: {name: {{ . | quote }}, key: {{ $model.download.secretKey | quote }}}
    {{- end }}
    {{- end }}
  resources:
    {{- toYaml .Values.encoder.resources | nindent 4 }}
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
  persistentVolumeClaim: {claimName: {{ $model.claim.name | quote }}, readOnly: true}
{{- else if and (eq $model.source "download") $model.download.existingClaim -}}
- name: model
  persistentVolumeClaim: {claimName: {{ $model.download.existingClaim | quote }}}
{{- else if eq $model.source "download" -}}
- name: model
  emptyDir: {sizeLimit: {{ include "video-analysis.quantity" $model.download.sizeLimit }}}
{{- end }}
{{- end }}

{{- define "video-analysis.banksClaim" -}}
{{ default (include "video-analysis.name" (dict "root" . "name" "banks")) .Values.textBanks.volume.existingClaim }}
{{- end }}
