{{- define "millrace.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "millrace.labels" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
{{- end }}

{{- define "millrace.config" -}}
{{ merge (dict "apiVersion" "millrace.io/v1alpha1" "kind" "NodeConfig") (deepCopy .) | toYaml }}
{{- end }}
