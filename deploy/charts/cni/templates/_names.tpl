{{/* The names are fixed: the plugin knows the agent's pods by theirs. */}}
{{- define "cni.name" -}}mainsheet-cni{{- end }}

{{/* Labels of every object. */}}
{{- define "cni.labels" -}}
app: mainsheet-cni
istio.io/rev: {{ .Values.revision | default "default" | quote }}
release: {{ .Release.Name }}
app.kubernetes.io/name: mainsheet-cni
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: istio
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "cni.image" -}}
{{- if contains "/" .Values.image }}{{ .Values.image }}
{{- else }}{{ .Values.hub | default .Values.global.hub }}/{{ .Values.image }}:{{ .Values.tag | default .Values.global.tag }}
{{- end }}
{{- end }}

{{- define "cni.namespaced" -}}{{ if has .Values.global.resourceScope (list "all" "namespace") }}yes{{ end }}{{- end }}
{{- define "cni.clustered" -}}{{ if has .Values.global.resourceScope (list "all" "cluster") }}yes{{ end }}{{- end }}
